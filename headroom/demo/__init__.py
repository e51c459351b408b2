"""`headroom demo`: a real PostgreSQL, a real PgBouncer, a real application in real trouble.

command.py      the command line
stage.py        starts all of it, plays, watches, stops all of it
scenarios.py    what can be played, in words
servers.py      PostgreSQL and PgBouncer as child processes; the tests use them too
unprivileged.py   who runs them when we are root
pooler.py       where PgBouncer comes from
config.py       Headroom's configuration for the demo
conductor.py    the demo's hold on the application, which is a process of its own:
application.py    its main loop
workload.py       three services and their users (schema.sql is their database)
troubles.py       how each scenario makes its trouble
receiver.py     takes the Slack messages and shows them
terminal.py     what the demo says
keeper.py       cleans up when the demo itself was killed
"""
