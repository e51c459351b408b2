"""The figures that README and docs/performance.md quote, measured on real servers.

lab.py       servers and processes to measure, and how to measure them
latency.py   a client begins to wait -> the webhook is called
cost.py      what one minute of watching costs, us and the server
targets.py   one process, many targets; and 20 of 25 that never answer
store.py     30 days of 20 targets: how big, how fast
peers.py     what watching costs the server, beside the peers
"""
