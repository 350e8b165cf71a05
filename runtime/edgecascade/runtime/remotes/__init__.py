"""Whom a cascade may ask, and what may be put around them."""
