"""Inputs kept on disk until the remote can be asked."""
