"""The program: wires collectors, store, alerts and dashboard together.

cli.py       the command line: `python -m headroom COMMAND`
commands/    one file a command
engine.py    `headroom run`: poll, store, judge, tell, in one asyncio process
writer.py    the one thread that writes to the store
entries.py   samples and decisions as the writer keeps and spools them
spool.py     a bounded file queue for what the store does not take right now
outbox.py    the store's outbox as the courier wants it
api.py       /healthz, /metrics and /api/v1/status of `headroom run`
status.py    what is known of every target right now, as JSON
ending.py    how our processes end: by a signal, in order, and with whoever started them
moments.py   "10m", "2026-11-22T03:12:05Z": points in time as people type them
ports.py     TCP ports as people type them
secrets_of.py  which texts of a configuration must never be seen
log.py       one line an event, no secrets
demo/        real servers, a real application, real trouble
"""
