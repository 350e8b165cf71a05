"""The scripts here run in environments of their own, each with its server: no tests, and not to be imported."""

collect_ignore_glob = ["serve_*.py"]
