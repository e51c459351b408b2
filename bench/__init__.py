"""The figures that README and docs/performance.md quote, measured on real servers.

lab.py       servers and processes to measure, and how to measure them
latency.py   a client begins to wait -> the webhook is called
cost.py      what one minute of watching costs, us and the server
"""
