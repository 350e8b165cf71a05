"""The commands of this part, each a module with `configure` and `execute`."""
