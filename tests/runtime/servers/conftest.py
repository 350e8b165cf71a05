"""The scripts in this folder run in their own environments, each with its server; they contain no tests."""

collect_ignore_glob = ["serve_*.py", "ask_*.py"]
