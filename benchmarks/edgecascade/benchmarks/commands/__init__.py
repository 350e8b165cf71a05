"""The command `edgecascade bench`: one module for each benchmark."""
