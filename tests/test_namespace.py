"""The layout has four source roots for one package; the device installs all but the benchmarks."""

import re
from pathlib import Path

import pytest

import edgecascade
import edgecascade.runtime

ROOT = Path(__file__).parent.parent


def test_only_the_runtime_root_has_an_init_file() -> None:
    """The file extends its path over the other three roots; a second `edgecascade/__init__.py` would break that."""
    roots = [ROOT / part / "edgecascade" for part in ("runtime", "calibration", "export", "benchmarks")]
    assert all(root.is_dir() for root in roots)
    assert [root.parent.name for root in roots if (root / "__init__.py").exists()] == ["runtime"]


def test_cascade_is_imported_from_the_package() -> None:
    """`edgecascade.Cascade` is the runtime's class, and an unknown name raises AttributeError."""
    assert edgecascade.Cascade is edgecascade.runtime.Cascade
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", edgecascade.__version__)
    assert {"Cascade", "__version__"} <= set(dir(edgecascade))
    with pytest.raises(AttributeError, match="nothing"):
        edgecascade.nothing  # noqa: B018


def test_every_part_has_type_information() -> None:
    """Every package directly below `edgecascade` contains `py.typed`, and so does that itself."""
    roots = [ROOT / part / "edgecascade" for part in ("runtime", "calibration", "export", "benchmarks")]
    packages = [path.parent for root in roots for path in root.glob("*/__init__.py")]
    assert len(packages) >= 7
    assert [path for path in (roots[0], *packages) if not (path / "py.typed").exists()] == []


def test_both_distributions_have_one_version() -> None:
    """Each requires exactly that version of the other."""
    device, apart = ((ROOT / part / "pyproject.toml").read_text() for part in (".", "benchmarks"))
    (version,) = re.findall(r'^version = "(.+)"$', device, re.MULTILINE)
    assert f'\nversion = "{version}"\n' in apart
    assert f'bench = ["edgecascade-benchmarks=={version}"]' in device
    assert re.search(rf'"edgecascade\[[a-z,]+\]=={version}"', apart)
