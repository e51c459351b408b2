-- One row per lock that somebody waits for, and per lock held or asked for on the same
-- thing; and the row locks of those who wait, because these tell the table. One pass over
-- the lock table. A lock without a pid belongs to a prepared transaction.
WITH locks AS MATERIALIZED (
    SELECT locktype, database, relation, mode, granted, pid,
           waitstart,
           ROW(locktype, database, relation, page, tuple, virtualxid, transactionid,
               classid, objid, objsubid)::pg_catalog.text AS tag
      FROM pg_catalog.pg_lock_status()
), waiting AS MATERIALIZED (
    SELECT tag, pid FROM locks WHERE NOT granted
)
SELECT tag, locktype, database, relation, mode, granted, pid, waitstart
  FROM locks
 WHERE tag IN (SELECT tag FROM waiting)
    OR (locktype = 'tuple' AND pid IN (SELECT pid FROM waiting))
 LIMIT 5000
