"""Links that hold on GitHub and in the site: to pages, to the top-level pages, to pictures and to the source.

The pages name every file by its path in the repository, so that their links work on GitHub. In the site, a link to a
page stays one, a picture from outside docs/ is copied, and any other file is shown by the repository's host. The marks
of figures (see tests/test_documentation.py) are left out.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
TOP = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}  # pages of the repository's top folder, by the page that they are in the site
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"(?<!`)<!-- (?:= .*?|/|lines of \S+) -->", re.DOTALL)
PICTURES = (".svg", ".png", ".webp")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's top folder."""
    for name, address in TOP.items():
        files.append(File.generated(config, address, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page as the site needs it: without marks, and with links that hold there."""
    parts, end = [], 0
    for block in FENCE.finditer(markdown):
        parts += [_outside_code(markdown[end : block.start()], page, config, files), block[0]]
        end = block.end()
    return "".join([*parts, _outside_code(markdown[end:], page, config, files)])


def _outside_code(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def rewritten(link: re.Match[str]) -> str:
        return _address(link[1], page.file.src_uri, config, files) + (link[2] or "")

    return LINK.sub(rewritten, MARK.sub("", text))


def _address(target: str, source: str, config: MkDocsConfig, files: Files) -> str:
    """Return a link's target for the page `source` of the site; both are relative paths with `/`."""
    above = {page: name for name, page in TOP.items()}.get(source)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(above or f"docs/{source}"), target))
    if path.startswith("docs/"):
        address = path.removeprefix("docs/")
    elif path in TOP:
        address = TOP[path]
    elif path.endswith(PICTURES):
        address = path
        if files.get_file_from_path(address) is None:
            files.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    else:
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.repo_url}/{kind}/main/{path}"
    return posixpath.relpath(address, posixpath.dirname(source) or ".")
