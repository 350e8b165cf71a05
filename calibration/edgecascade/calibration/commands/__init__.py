"""The commands `edgecascade plan` and `edgecascade evaluate`."""
