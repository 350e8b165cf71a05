"""The site of the documentation: it builds strictly, needs nothing from elsewhere, and is read on a phone.

`make docs` builds it. tests/test_documentation.py checks the pages themselves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from edgecascade import cli

ROOT = Path(__file__).parent.parent
(REPOSITORY,) = (
    line.removeprefix("repo_url: ") for line in (ROOT / "mkdocs.yml").read_text().splitlines() if "repo_url:" in line
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (built.returncode, built.stdout, "WARNING" in built.stderr) == (0, "", False), built.stderr
    return folder


class Contents(HTMLParser):
    """The addresses and identifiers of a page.

    Attributes:
        links: the targets of links.
        loaded: the addresses of what a browser loads with the page: scripts, styles and pictures.
        names: the identifiers that a link may name.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses and identifiers of one tag."""
        found = dict(attrs)
        self.names |= {name for name in (found.get("id"), found.get("name")) if name}
        target = found.get("href") or found.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target and not (tag == "link" and found.get("rel") in ("canonical", "prev", "next")):
            self.loaded.append(target)


@pytest.fixture(scope="module")
def contents(site: Path) -> dict[Path, Contents]:
    """Return what each page of the site names."""
    return {path: Contents(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_of_the_site_has_its_target(contents: dict[Path, Contents]) -> None:
    """A link within the site names a file and a heading in it; one to the repository names a file of this checkout."""
    missing = []
    for path, page in contents.items():
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if link.startswith(f"{REPOSITORY}/"):
                kind, _, *file = parts.path.removeprefix(urlsplit(REPOSITORY).path).strip("/").split("/")
                found = kind in ("blob", "tree") and (ROOT / unquote("/".join(file))).exists()
                missing += [] if found or file == [] else [(path.name, link)]
            elif not parts.scheme:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                named = contents.get(target / "index.html" if target.is_dir() else target)
                if not target.exists() or (parts.fragment and named and unquote(parts.fragment) not in named.names):
                    missing.append((path.name, link))
    assert missing == []
    assert len(contents) > 12


def test_the_site_loads_nothing_from_elsewhere(site: Path, contents: dict[Path, Contents]) -> None:
    """Scripts, styles, pictures and fonts are files of the site, so that it works without a network."""
    loaded = {address for page in contents.values() for address in page.loaded}
    assert {address for address in loaded if urlsplit(address).scheme not in ("", "data")} == set()
    assert [path.name for path in site.rglob("*.css") if "url(http" in path.read_text()] == []


def test_no_mark_of_a_figure_is_in_the_site(contents: dict[Path, Contents]) -> None:
    """The marks are only in the source of the pages."""
    marked = {path.name for path in contents if "<!-- = " in path.read_text()}
    assert marked == set()


def test_the_reference_describes_names_and_no_modules(site: Path) -> None:
    """A function that shares its name with its module, such as `fold`, is there itself."""
    modules = {page.name for page in site.glob("reference/*.html") if "doc-symbol-module" in page.read_text()}
    assert modules == set()
    assert 'class="doc doc-object-name doc-function-name">fold<' in (site / "reference" / "export.html").read_text()


def test_every_option_of_every_command_is_in_its_reference(site: Path) -> None:
    """The page of commands has a heading for each command, and all options, also the rare ones."""
    page = (site / "reference" / "commands.html").read_text()
    for name in cli._COMMANDS:
        assert f'id="edgecascade-{name}"' in page
        for parser in _parsers(cli._parser(name)):
            options = {option for action in parser._actions for option in action.option_strings}
            absent = {option for option in options if f"<code>{option}" not in page and f" {option}" not in page}
            assert absent <= {"-h", "--help", "--help-all", "--version"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Return the address at which the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site)) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def phone(browser: Any, **options: Any) -> Iterator[Any]:
    """Open a page with the width of a phone."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, **options)
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.mark.parametrize(
    ("page", "scheme"),
    [("index.html", "light"), ("bulk.html", "light"), ("reference/verifiers.html", "dark")],
)
def test_a_page_has_no_serious_fault_of_accessibility(browser: Any, address: str, page: str, scheme: str) -> None:
    """axe-core finds no serious or critical violation at the width of a phone, on light pages and on dark ones."""
    from axe_playwright_python.sync_playwright import Axe

    with phone(browser, color_scheme=scheme) as opened:
        opened.goto(f"{address}/{page}")
        faults = {
            (one["id"], node["target"][0])
            for one in Axe().run(opened).response["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        }
        assert faults == set()


def test_every_page_fits_a_phone_and_asks_no_other_host(browser: Any, address: str, site: Path) -> None:
    """No page scrolls sideways at 390 pixels, and all requests go to where the site is."""
    with phone(browser) as opened:
        requests: list[str] = []
        opened.on("request", lambda request: requests.append(request.url))
        wide = []
        for page in site.rglob("*.html"):
            opened.goto(f"{address}/{page.relative_to(site).as_posix()}", wait_until="domcontentloaded")
            width = opened.evaluate("document.documentElement.scrollWidth")
            wide += [(page.name, width)] if width > 390 else []
        opened.wait_for_load_state("networkidle")
        assert wide == []
        assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("page", ["index.html", "reference/commands.html"])
def test_a_page_is_read_without_javascript(browser: Any, address: str, page: str) -> None:
    """Heading and text are there, and the menu opens."""
    from playwright.sync_api import expect

    with phone(browser, java_script_enabled=False) as opened:
        opened.goto(f"{address}/{page}")
        assert opened.locator("article h1").is_visible()
        assert len(opened.locator("article").inner_text()) > 300
        entry = opened.locator("nav.md-nav--primary").get_by_text("Home", exact=True).first
        expect(entry).not_to_be_in_viewport()
        opened.locator("label.md-header__button[for=__drawer]").click()
        expect(entry).to_be_in_viewport()


def test_the_search_finds_a_word(browser: Any, address: str) -> None:
    """Its index is a file of the site."""
    with phone(browser) as opened:
        opened.goto(f"{address}/index.html?q=fit_temperature")
        opened.locator(".md-search-result__link").first.wait_for(state="attached", timeout=20_000)


def _parsers(parser: Any) -> Iterator[Any]:
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from _parsers(below)


def test_examples_in_docstrings_are_shown_as_code(site: Path) -> None:
    """Every prompt of Python is in a block of code."""
    for page in (site / "reference").glob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(), flags=re.DOTALL)
        assert "<blockquote>" not in text, page.name
        assert "&gt;&gt;&gt;" not in text, page.name
    assert "&gt;&gt;&gt;" in (site / "reference" / "cleaning.html").read_text()
