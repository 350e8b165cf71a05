"""The commands `run`, `serve` and `inspect`, and what the first two are made of."""
