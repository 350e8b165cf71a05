"""One folder with every package of the four source roots, as the reference of names needs it.

The roots share the package `edgecascade`. Python joins them when it runs the package's `__init__.py`; mkdocstrings only
reads the source, and takes the first folder of that name for the whole.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

ROOT = Path(__file__).parent.parent.parent
_joined = TemporaryDirectory(prefix="edgecascade-site-")


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the reference read the joined package."""
    package = Path(_joined.name) / "edgecascade"
    package.mkdir(exist_ok=True)
    for root in ("runtime", "calibration", "export", "benchmarks"):
        for source in (ROOT / root / "edgecascade").iterdir():
            if source.name != "__pycache__" and not (package / source.name).exists():
                (package / source.name).symlink_to(source)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [_joined.name]
    return config
