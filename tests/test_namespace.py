"""The layout: four source roots, one package; three of them in what a device installs, the benchmarks apart."""

import re
from pathlib import Path

import pytest

import edgecascade
import edgecascade.runtime

ROOT = Path(__file__).parent.parent


def test_only_the_runtime_root_has_an_init_file() -> None:
    """It extends its path over the other three, which a second `edgecascade/__init__.py` would break."""
    roots = [ROOT / part / "edgecascade" for part in ("runtime", "calibration", "export", "benchmarks")]
    assert all(root.is_dir() for root in roots)
    assert [root.parent.name for root in roots if (root / "__init__.py").exists()] == ["runtime"]


def test_the_first_line_that_everyone_types_works() -> None:
    """And it imports none of the parts that a device does not need."""
    assert edgecascade.Cascade is edgecascade.runtime.Cascade
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", edgecascade.__version__)
    assert {"Cascade", "__version__"} <= set(dir(edgecascade))
    with pytest.raises(AttributeError, match="nothing"):
        edgecascade.nothing  # noqa: B018


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
    assert re.search(rf'"edgecascade\[[a-z,]+\]=={version}"', apart)
