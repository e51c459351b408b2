-- One row: what our role may do, and what makes watching this server harder.
SELECT CURRENT_USER::pg_catalog.text,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
       pg_catalog.current_setting('is_superuser') = 'on',
       pg_catalog.current_setting('default_transaction_read_only') = 'on',
       pg_catalog.current_setting('track_activities') = 'on',
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('track_activity_query_size'))
         * pg_catalog.current_setting('max_connections')::pg_catalog.int8,
       NULL::pg_catalog.int4,
       NULL::pg_catalog.bool
