-- One row per login role with a CONNECTION LIMIT. Superusers ignore theirs.
SELECT oid, rolname, rolconnlimit
  FROM pg_catalog.pg_roles
 WHERE rolconnlimit >= 0 AND rolcanlogin AND NOT rolsuper
 ORDER BY rolname
