"""Nouns that every room shares. No I/O here.

samples.py    what one poll of one target said (Sample and its parts)
alerting.py   findings, alerts, notices and verdicts
metrics.py    every stored number: its unit, its source and how a bucket folds it
config.py     the configuration file: parse(text) or an error that names file, key and line
targets.py, channels.py, rules.py   the sections of that file
durations.py, sizes.py  "10m", "20GB" and back
"""
