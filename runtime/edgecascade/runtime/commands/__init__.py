"""The commands `run`, `serve` and `inspect`."""
