-- One row: the number that all copies of one cluster share, from the control file.
SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()
