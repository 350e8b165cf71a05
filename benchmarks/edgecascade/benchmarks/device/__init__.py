"""The machine a benchmark runs on: what it is, how hot, how fast and at what power; what it does not tell is None."""
