"""docs/licences.md lists what each extra installs, with its licence, and no extra brings a licence that is not listed.

`python tests/test_licences.py` writes the table of the page from what is installed here.
"""

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # of Python 3.11
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"
TABLE = re.compile(r"(?<=<!-- licences -->\n\n).*?(?=\n\n<!-- /licences -->)", re.DOTALL)
OWN = {"edgecascade", "edgecascade-benchmarks"}
INTERNAL = {"bench", "dev", "docs", "fuzz", "latency"}  # what develops and measures this project
ELSEWHERE = {  # what is not installed for development: builds that exclude each other, and what needs a board
    "jetson-stats": "AGPL-3.0",
    "nvidia-ml-py": "BSD License",
    "onnxruntime-directml": "MIT License",
    "onnxruntime-gpu": "MIT License",
    "onnxruntime-openvino": "MIT License",
}
PERMISSIVE = (
    *("0BSD", "Apache", "BSD", "BSL-1.0", "CC0", "CNRI", "HPND", "ISC", "MIT", "PSF", "Python Software Foundation"),
    *("Unlicense", "Zlib", "zlib", "LLVM-exception", "The Unlicense"),
)
SHARED_ALIKE = {"jetson-stats": "AGPL-3.0"}  # named on the page; others may not come in unnoticed
WEAK = ("MPL-2.0", "Mozilla Public License 2.0", "MPL 2.0")  # by file: no duty for what uses it


def extras() -> dict[str, list[str]]:
    """Return the requirements of each extra, and of the plain package under an empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {name: list(given) for name, given in project["optional-dependencies"].items() if name not in INTERNAL}
    return {"": list(project["dependencies"]), **named}


def installed(requirements: list[str], found: set[str] | None = None) -> set[str]:
    """Return the names of all packages that requirements bring, on this machine."""
    found = set() if found is None else found
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            if name in OWN:
                installed(extras().get(extra, []) if extra else [], found)
            elif (key := f"{name}[{extra}]") not in found:
                found.add(key)
                installed(list(_required(name, extra)), found)
    return found


def _required(name: str, extra: str) -> Iterator[str]:
    if name in ELSEWHERE:
        return
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            if not extra:
                yield text
        elif requirement.marker.evaluate({"extra": extra}) and (
            not extra or not requirement.marker.evaluate({"extra": ""})
        ):
            requirement.marker = None
            yield str(requirement)


def licence(name: str) -> str:
    """Return the licence of a package, as its metadata name it."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    metadata: Any = distribution(name).metadata
    classified = [
        one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")
    ]
    known = metadata.get("License-Expression") or ", ".join(one for one in classified if one != "OSI Approved")
    return str(known or (metadata.get("License") or "").partition("\n")[0])


def table() -> str:
    """Return the table of the page."""
    by_package: dict[str, list[str]] = {}
    for extra, requirements in extras().items():
        for key in installed(requirements):
            by_package.setdefault(key.partition("[")[0], []).append(f"`{extra}`" if extra else "always")
    rows = [
        f"| {name} | {licence(name)} | {', '.join(dict.fromkeys(by_package[name]))} |" for name in sorted(by_package)
    ]
    return "\n".join(["| package | licence | comes with |", "|---|---|---|", *rows])


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="other platforms install other packages"
)
def test_the_page_lists_what_is_installed() -> None:
    """`python tests/test_licences.py` would not change it."""
    (listed,) = TABLE.findall(PAGE.read_text())
    assert listed == table()


def test_every_licence_is_permissive_or_named() -> None:
    """What demands more than a notice is known here, and said on the page."""
    names = {key.partition("[")[0] for requirements in extras().values() for key in installed(requirements)}
    for name in sorted(names):
        given = licence(name)
        parts = re.split(r" AND | OR |, | WITH |[()]", given)
        demanding = [one for one in parts if one and not any(word in one for word in (*PERMISSIVE, *WEAK))]
        assert demanding == ([SHARED_ALIKE[name]] if name in SHARED_ALIKE else []), (name, given)
    page = PAGE.read_text()
    assert all(name in TABLE.sub("", page) for name in SHARED_ALIKE)


def test_a_licence_that_demands_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that comes in with a new version."""
    monkeypatch.setitem(ELSEWHERE, "numpy", "GPL-3.0-only")
    with pytest.raises(AssertionError, match="numpy"):
        test_every_licence_is_permissive_or_named()


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
