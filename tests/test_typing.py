"""What mypy tells a user's program about the installed packages."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def test_a_users_program_is_checked_against_the_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    """The wheel has its types (py.typed): right use passes mypy's strict mode, and wrong use is reported."""
    venv.create(tmp_path / "users", with_pip=False)
    (site,) = (tmp_path / "users").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheels["edgecascade"]) as wheel:
        wheel.extractall(site)
    (site / "others.pth").write_text(str(Path(np.__file__).parent.parent))
    (tmp_path / "program.py").write_text((HERE / "typing" / "api.py").read_text())
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", tmp_path / "users" / "bin" / "python", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
