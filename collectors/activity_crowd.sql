-- The same look at a server with many sessions, in two kinds of rows. Counted ones (pid
-- NULL) are groups of sessions that are alike, with the earliest times and the pids in each
-- group: with them every total is exact. The others are sessions as in activity.sql: ours,
-- and at most 200 that do something or changed since the moment that we give.
WITH seen AS MATERIALIZED (
    SELECT pid, datid, usesysid, backend_type, application_name, client_addr, client_port,
           state, wait_event_type, wait_event, backend_start, xact_start, query_start,
           state_change, leader_pid,
           CASE WHEN state <> 'idle' AND pid <> pg_catalog.pg_backend_pid()
                THEN pg_catalog.left(query, 4096) END AS statement
      FROM pg_catalog.pg_stat_get_activity(NULL)
     WHERE backend_type IN ('client backend', 'walsender')
        OR (backend_type = 'parallel worker' AND wait_event_type = 'Lock')
        OR backend_type IS NULL
), hot AS (
    SELECT *
      FROM seen
     WHERE pid = pg_catalog.pg_backend_pid()
        OR state <> 'idle'
        OR state IS NULL
        OR state_change >= %(since)s
        OR backend_start >= %(since)s
     ORDER BY pid <> pg_catalog.pg_backend_pid(),
              wait_event_type = 'Lock' DESC NULLS LAST,
              xact_start NULLS LAST
     LIMIT 200
)
SELECT pid, pid = pg_catalog.pg_backend_pid(), datid, usesysid, backend_type,
       application_name, pg_catalog.host(client_addr), client_port, state, wait_event_type,
       wait_event, backend_start, xact_start, query_start, state_change, leader_pid,
       statement, pg_catalog.clock_timestamp(), pg_catalog.pg_is_in_recovery(),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xact()),
       (SELECT pg_catalog.min(prepared) FROM pg_catalog.pg_prepared_xact()),
       NULL::pg_catalog.int4[]
  FROM hot
UNION ALL
SELECT NULL, false, datid, usesysid, backend_type, NULL, NULL, NULL, state, wait_event_type,
       NULL, NULL, pg_catalog.min(xact_start), pg_catalog.min(query_start),
       pg_catalog.min(state_change), NULL, NULL, NULL, NULL, NULL, NULL,
       pg_catalog.array_agg(pid)
  FROM seen
 WHERE pid <> pg_catalog.pg_backend_pid()
 GROUP BY datid, usesysid, backend_type, state, wait_event_type
