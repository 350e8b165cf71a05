"""The reference of commands, written from the parsers themselves when the site is built."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from html import escape

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from edgecascade import cli

PAGE = "reference/commands.md"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # by name
    """Return the page of commands with a section for each command; other pages stay as they are."""
    if page.file.src_uri != PAGE:
        return markdown
    return "\n\n".join([markdown, *sections()])


def sections() -> Iterator[str]:
    """Yield one section of Markdown for each command, in the order of `edgecascade --help`."""
    for names in cli._GROUPS.values():
        for name in names:
            (commands,) = (one for one in cli._parser(name)._actions if isinstance(one, _SubParsersAction))
            yield from _command(f"edgecascade {name}", commands.choices[name])


def _command(name: str, parser: ArgumentParser, level: int = 2) -> Iterator[str]:
    """Yield the sections of a command and of those below it."""
    yield f"{'#' * level} {name}"
    yield _text(parser.description or "")
    vars(parser)["everything"] = True
    yield f"```text\n{parser.format_usage().removeprefix('usage: ').strip()}\n```"
    for group in parser._action_groups:
        rows = [_row(one) for one in group._group_actions if _is_shown(one)]
        if rows:
            title = group.title or "options"
            yield f"<p><strong>{escape(title[0].upper() + title[1:])}</strong></p>\n<dl>\n{''.join(rows)}</dl>"
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```"
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below, its_parser in action.choices.items():
                yield from _command(f"{name} {below}", its_parser, level + 1)


def _is_shown(action: Action) -> bool:
    return not (isinstance(action, _SubParsersAction) or {"-h", "--help-all"} & {*action.option_strings})


def _row(action: Action) -> str:
    """Return an argument and its help as the terms of an HTML list."""
    values = ArgumentParser()._get_formatter()._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
    spelt = ", ".join(f"{option} {values}".strip() for option in action.option_strings) or values
    text = action.help if action.help and action.help is not SUPPRESS else ""
    text %= {**vars(action), "prog": ""} if text else {}
    seldom = " Only <code>--help-all</code> shows this option." if vars(action).get("rare") else ""
    return f"<dt><code>{escape(spelt)}</code></dt>\n<dd>{_text(text)}{seldom}</dd>\n"


def _text(text: str) -> str:
    """Return help text as HTML in which words between backquotes are code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
