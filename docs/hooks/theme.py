"""Mend the theme: its search dialog gets a name, and it no longer asks the repository's host for the stars."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

SEARCH = 'data-md-component="search" role="dialog"'  # screen readers need a name for it
STARS = ' data-md-component="source"'  # by which a script asks the host for the repository's stars


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001  # by name
    """Return a page, mended."""
    return mended(output)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:  # noqa: ARG001  # by name
    """Return a page of the theme itself, such as 404.html, mended."""
    return mended(output_content)


def mended(text: str) -> str:
    """Return the text of a page with a name for the dialog, and without the request."""
    return text.replace(SEARCH, f'{SEARCH} aria-label="Search"').replace(STARS, "")
