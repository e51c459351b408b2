"""`headroom demo`: a real PostgreSQL, a real PgBouncer, a real application in real trouble.

servers.py    PostgreSQL and PgBouncer as child processes; the tests use them too
"""
