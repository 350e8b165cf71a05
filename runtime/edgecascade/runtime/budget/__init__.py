"""What may be spent on forwards."""
