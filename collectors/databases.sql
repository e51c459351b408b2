-- One row per database: its limit and its counters since they were reset.
SELECT d.oid,
       d.datname,
       d.datconnlimit,
       s.numbackends,
       s.xact_commit,
       s.xact_rollback,
       NULL::pg_catalog.int8,
       NULL::pg_catalog.int8,
       NULL::pg_catalog.int8,
       NULL::pg_catalog.int8,
       NULL::pg_catalog.float8,
       NULL::pg_catalog.float8,
       NULL::pg_catalog.float8,
       s.stats_reset
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
 WHERE d.datallowconn
 ORDER BY d.datname
