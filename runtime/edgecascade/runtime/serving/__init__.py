"""What `edgecascade serve` is made of."""
