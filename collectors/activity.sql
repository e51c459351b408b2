-- One row per client backend and WAL sender, ours included, in one look at the backend
-- array: no join, so no catalog lock can blind us. Rows whose backend_type is NULL are
-- those that we may not see. A parallel worker is here only while it waits for a lock, on
-- behalf of its leader. The text of an idle session is stale, so it is not sent.
SELECT pid,
       pid = pg_catalog.pg_backend_pid(),
       datid,
       usesysid,
       backend_type,
       application_name,
       pg_catalog.host(client_addr),
       client_port,
       state,
       wait_event_type,
       wait_event,
       backend_start,
       xact_start,
       query_start,
       state_change,
       leader_pid,
       CASE WHEN state <> 'idle' AND pid <> pg_catalog.pg_backend_pid()
            THEN pg_catalog.left(query, 4096) END,
       pg_catalog.clock_timestamp(),
       pg_catalog.pg_is_in_recovery(),
       prepared.transactions,
       prepared.oldest
  FROM pg_catalog.pg_stat_get_activity(NULL),
       (SELECT pg_catalog.count(*) AS transactions, pg_catalog.min(prepared) AS oldest
          FROM pg_catalog.pg_prepared_xact()) AS prepared
 WHERE backend_type IN ('client backend', 'walsender')
    OR (backend_type = 'parallel worker' AND wait_event_type = 'Lock')
    OR backend_type IS NULL
