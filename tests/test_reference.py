"""The reference of the API: it lists every public name once, and each is used in an example that runs.

tests/test_documentation.py runs the examples; tests/test_site.py builds the pages.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path

PAGES = sorted((Path(__file__).parent.parent / "docs" / "reference").glob("*.md"))
PACKAGES = (
    "edgecascade.calibration",
    "edgecascade.calibration.cleaning",
    "edgecascade.calibration.metrics",
    "edgecascade.calibration.scaling",
    "edgecascade.calibration.verifiers",
    "edgecascade.chat",
    "edgecascade.export",
    "edgecascade.runtime",
    "edgecascade.runtime.outbox",
    "edgecascade.deploy.kserve",
    "edgecascade.deploy.stages",
    "edgecascade.deploy.triton",
)
Name = tuple[str, int]  # a name and the identity of what it stands for, which several packages may have


def public() -> dict[Name, str]:
    """Return the public names, with an address of each."""
    found: dict[Name, str] = {}
    for package in map(import_module, PACKAGES):
        for name in package.__all__:
            found.setdefault((name, id(getattr(package, name))), f"{package.__name__}.{name}")
    return found


def resolved(address: str) -> Name:
    """Return the name at an address such as `edgecascade.runtime.Cascade`."""
    package, _, name = address.rpartition(".")
    return name, id(getattr(import_module(package), name))


def used(example: ast.Module) -> Iterator[Name]:
    """Yield the names of edgecascade that a page's examples import and use."""
    read = {node.id for node in ast.walk(example) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for node in ast.walk(example):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgecascade"):
            for one in node.names:
                if (one.asname or one.name) in read:
                    yield resolved(f"{node.module}.{one.name}")
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("edgecascade."):
            yield node.attr, id(reduce(getattr, ast.unparse(node).split(".")[1:], import_module("edgecascade")))


def test_every_public_name_is_in_the_reference_once() -> None:
    """No name is missing, none is there twice under whatever address, and each address is that of something."""
    listed = Counter[Name]()
    for page in PAGES:
        listed.update(map(resolved, re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)))
    names = public()
    assert [names[one] for one in names if one not in listed] == []
    assert [name for (name, _), times in listed.items() if times > 1] == []


def test_every_public_name_is_used_in_an_example() -> None:
    """The example imports it, and does something with it or says where it belongs."""
    found: set[Name] = set()
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        found |= set(used(ast.parse("\n".join(blocks))))
    assert [address for name, address in public().items() if name not in found] == []


def test_the_reference_names_its_pages() -> None:
    """The first page links every other page."""
    first = (PAGES[0].parent / "index.md").read_text()
    assert [page.name for page in PAGES if page.name != "index.md" and f"]({page.name})" not in first] == []
