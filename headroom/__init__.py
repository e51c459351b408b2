"""The program: wires collectors, store, alerts and dashboard together."""
