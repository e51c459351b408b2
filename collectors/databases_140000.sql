-- One row per database: its limit and its counters since they were reset; times in ms.
SELECT d.oid,
       d.datname,
       d.datconnlimit,
       s.numbackends,
       s.xact_commit,
       s.xact_rollback,
       s.sessions,
       s.sessions_abandoned,
       s.sessions_fatal,
       s.sessions_killed,
       s.session_time,
       s.active_time,
       s.idle_in_transaction_time,
       s.stats_reset
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
 WHERE d.datallowconn
 ORDER BY d.datname
