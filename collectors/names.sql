-- One row per oid that we asked for: which kind it is and its name.
SELECT 'database', oid, datname::pg_catalog.text
  FROM pg_catalog.pg_database
 WHERE oid = ANY(%s::pg_catalog.oid[])
UNION ALL
SELECT 'role', oid, rolname::pg_catalog.text
  FROM pg_catalog.pg_roles
 WHERE oid = ANY(%s::pg_catalog.oid[])
