"""Latency by MLPerf LoadGen's scenarios, of a model alone, of a cascade, and of what it asks. Read `run.py` first."""
