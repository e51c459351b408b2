-- One row per waiting backend that we asked for: who is in its way; pid 0 is a prepared
-- transaction. Each call looks at the whole lock table, so only a few are asked for.
SELECT pid, pg_catalog.pg_blocking_pids(pid)
  FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS waiting (pid)
