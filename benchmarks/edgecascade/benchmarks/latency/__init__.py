"""Latency in MLPerf LoadGen's scenarios: of a model alone, of a cascade, and of its remote. Start with `run.py`."""
