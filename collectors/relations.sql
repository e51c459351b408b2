-- One row per oid that we asked for: a table or index of the database we are connected to.
SELECT c.oid, n.nspname, c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY(%s::pg_catalog.oid[])
