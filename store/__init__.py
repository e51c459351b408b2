"""Keeps what was seen: samples, episodes, alerts, outbox. SQLAlchemy Core, SQLite in WAL mode.

database.py    Store: opens, migrates and closes the database; two durabilities
tables.py      the tables, one block of columns per kind of row
kept.py        how times and lists of pids are kept
append.py      samples in: one transaction a batch
episodes.py    snapshots of sessions folded into episodes (pure)
alert_log.py   alerts, outbox, verdicts: one transaction a decision
windows.py     samples out, as pandas frames bucketed to a chart's width, gaps marked
rates.py       counters as rates, service time and time in the queue
spans.py       where rows begin and end, found by their keys
links.py       who works for whom: clients of a pooler and the sessions behind them
locks.py       who waited for which lock, behind whom, at any moment
runs.py        the lives of `headroom run`, whose gaps are ours
looks.py       when we looked, and which episodes were there at that moment
latest.py      the present: last sample, open sessions, alerts, verdicts
export.py      any table, any range, as a frame
rollup.py      samples into minutes, minutes into hours
retention.py   old rows out, in small steps
size.py        how big the store is, and how big it will be
migrations/    Alembic; forward only
"""
