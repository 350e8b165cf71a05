"""The layout: four source roots, one namespace; three of them in what a device installs, the benchmarks apart."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_edgecascade_is_a_namespace_without_an_init_file() -> None:
    """An `edgecascade/__init__.py` in any root would hide the other three."""
    roots = [ROOT / part / "edgecascade" for part in ("runtime", "calibration", "export", "benchmarks")]
    assert all(root.is_dir() for root in roots)
    assert [root / "__init__.py" for root in roots if (root / "__init__.py").exists()] == []


def test_every_part_is_typed() -> None:
    """A type checker reads the types of each part."""
    for part in ("runtime", "calibration", "export", "benchmarks"):
        assert (ROOT / part / "edgecascade" / part / "py.typed").exists()


def test_both_distributions_are_of_one_version() -> None:
    """And each asks for just that version of the other."""
    device, apart = ((ROOT / part / "pyproject.toml").read_text() for part in (".", "benchmarks"))
    (version,) = re.findall(r'^version = "(.+)"$', device, re.MULTILINE)
    assert f'\nversion = "{version}"\n' in apart
    assert f'bench = ["edgecascade-benchmarks=={version}"]' in device
    assert f'"edgecascade[export,plan,serve]=={version}"' in apart
