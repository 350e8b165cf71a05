"""Check that a tag is the version of both packages and of the changelog, and print what the changelog says of it.

python3 .ci/release.py v0.2.0
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version_of(path: Path) -> str:
    """Return the version in a pyproject.toml; written so that Python 3.10 can read it."""
    return re.findall(r'^version = "(.+)"$', path.read_text(), re.MULTILINE)[0]


def main(tag: str) -> int:
    """Return 0 and print the changes, or return 1 and print what differs."""
    versions = {version_of(ROOT / "pyproject.toml"), version_of(ROOT / "benchmarks" / "pyproject.toml")}
    if versions != {tag.removeprefix("v")}:
        print(f"tag: expected v{' or v'.join(sorted(versions))}, as in both pyproject.toml, got {tag}", file=sys.stderr)
        return 1
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(
        rf"^## {re.escape(tag[1:])} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE
    )
    if found is None:
        print(f"CHANGELOG.md: expected a heading `## {tag[1:]} - YYYY-MM-DD`, got none", file=sys.stderr)
        return 1
    print(found[1].strip())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
