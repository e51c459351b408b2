"""Asks the targets. Every poll ends at its deadline and yields a Sample, up or not.

schedule.py          when each target is polled, whatever the clock does
registry.py          which collector asks which kind of target
stretch.py           polls that cost too much come less often
postgresql.py        one PostgreSQL server: asks (postgresql_rows.py reads; *.sql are the questions)
names.py, crowd.py, applications.py, session_time.py   what is remembered from poll to poll
lock_waits.py        asks who waits for whom (blocking.py makes the tree)
asked.py             questions that got no answer, and when to ask them again
pgbouncer.py         one pooler with a console, all its processes (console.py asks one of them;
                     dialects.py: what each product tells; pgbouncer_rows.py, pgbouncer_chain.py
                     read; processes.py sums; canary.py sends a query through it)
pgpool.py            one Pgpool-II: asks (pgpool_rows.py reads)
cadence.py           when to ask again what need not be asked in every poll
answer.py            makes a sample of every poll, also of one that failed
connection.py        the one connection that is held to a target, deadlines, reconnecting
backoff.py, resolve.py, text.py, errors.py             what connection.py stands on
connect_failures.py, startup_probe.py, left_behind.py  why it failed, and what stays over there
mask.py              statements without their literals, before anything leaves the collector
check.py             what is missing for a target to be watched well
sql.py               picks the newest .sql file that a server can run
"""
