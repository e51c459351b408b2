-- One row: what cannot change while a connection lives, because it takes a restart.
SELECT pg_catalog.pg_backend_pid(),
       pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
       pg_catalog.current_setting('server_version'),
       pg_catalog.pg_postmaster_start_time(),
       pg_catalog.current_setting('max_connections')::pg_catalog.int4,
       pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4,
       COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4,
       CURRENT_USER::pg_catalog.text
