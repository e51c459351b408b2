"""One file a rule. A rule is a pure generator of findings over a View; limits are arguments.

registry.py   the list of rules, and judge(): one rule's answer about one target
limits.py     which of two limits a value has reached
"""
