"""The commands of this part, one module each."""
