"""Put a new cascade file in the place of the one that a service uses, and put the old one back if it is refused.

python update.py new.onnx /var/lib/edgecascade/local.onnx --reload "systemctl reload edgecascade"
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("new", type=Path)
parser.add_argument("file", type=Path)
parser.add_argument("--reload", required=True, help="command that sends SIGHUP to the service")
parser.add_argument("--metrics", default="http://127.0.0.1:8000/metrics")
parser.add_argument("--patience", type=float, default=300, help="seconds for the service to load the file")
arguments = parser.parse_args()


def reloads() -> dict[str, int]:
    """Return how many files the service has taken and refused."""
    with urllib.request.urlopen(arguments.metrics, timeout=10) as response:
        found = re.findall(r'^edgecascade_reloads_total{outcome="(\w+)"} (\d+)', response.read().decode(), re.MULTILINE)
    return {outcome: int(count) for outcome, count in found}


def outcome_of(file: Path) -> str:
    """Give the service a file, and return whether it was `taken` or `refused`."""
    before, until = reloads(), time.monotonic() + arguments.patience
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.replace(arguments.file)  # the service sees one file or the other, also after a power cut
    subprocess.run(shlex.split(arguments.reload), check=True)
    while time.monotonic() < until:
        changed = [outcome for outcome, count in reloads().items() if count > before[outcome]]
        if changed:
            return changed[0]
        time.sleep(0.2)
    return "not answered"


old, placed = (arguments.file.with_suffix(suffix) for suffix in (".old", ".new"))
shutil.copy(arguments.file, old)
shutil.copy(arguments.new, placed)
outcome = outcome_of(placed)
print(f"{arguments.new}: {outcome}")
if outcome != "taken":
    print(f"{old}: {outcome_of(old)}")
    sys.exit(1)
