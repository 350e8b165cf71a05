"""The command `deploy`."""
