"""What the theme lacks for readers with a screen reader: the name of the dialog in which one searches."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

SEARCH = 'data-md-component="search" role="dialog"'


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001  # by name
    """Return the page with a name for the dialog."""
    return output.replace(SEARCH, f'{SEARCH} aria-label="Search"')
