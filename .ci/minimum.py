"""Print the oldest versions that extras of the package allow, as constraints for pip.

python3 .ci/minimum.py cpu images
"""

import re
import sys
from pathlib import Path


def main(*extras: str) -> None:
    """Print a line for each requirement of the package and of these extras."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    lists = [re.findall(r"^dependencies = \[(.*)\]$", text, re.MULTILINE)]
    lists += [re.findall(rf"^{extra} = \[(.*)\]$", text, re.MULTILINE) for extra in extras]
    for name, version in re.findall(r'"([\w-]+)>=([\d.]+)"', " ".join(one for found in lists for one in found)):
        print(f"{name}=={version if '.' in version else f'{version}.0'}.*")


if __name__ == "__main__":
    main(*sys.argv[1:])
