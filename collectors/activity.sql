-- One row per client backend and WAL sender, ours included, in one look at the backend
-- array: no join, so no catalog lock can blind us. Rows whose backend_type is NULL are
-- those that we may not see. The text of an idle session is stale, so it is not sent.
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
       CASE WHEN state <> 'idle' AND pid <> pg_catalog.pg_backend_pid()
            THEN pg_catalog.left(query, 4096) END,
       pg_catalog.clock_timestamp(),
       pg_catalog.pg_is_in_recovery(),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xact())
  FROM pg_catalog.pg_stat_get_activity(NULL)
 WHERE backend_type IN ('client backend', 'walsender')
    OR backend_type IS NULL
