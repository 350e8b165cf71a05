"""Plug-ins by name, as commands take them: `NAME:option=value,...` of what ships, or `MODULE:NAME` of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from edgecascade.types.errors import ArgumentError, EdgecascadeError, first_line

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["like", "named", "own"]


def named(text: str, known: Mapping[str, Callable[..., Any]], argument: str) -> Any:
    """Return what a text names: one of those that ship, made with the options in the text, or the user's own object.

    Args:
        text: `NAME`, `NAME:option=value,option=value`, or what `own` takes.
        known: functions or classes by name, whose parameters are annotated as str, int, float or bool, or as one of
            them or None.
        argument: the name of the argument for error messages, such as `--verifier`.

    Raises:
        ArgumentError: no such name or option, an option's value is of another type, or as `own`.

    >>> def within(tolerance: float, relative: bool = False) -> str:
    ...     return f"{tolerance} {relative}"
    >>> named("within:tolerance=2,relative=yes", {"within": within}, "--verifier")
    '2.0 True'
    """
    name, _, rest = text.partition(":")
    if name not in known:
        if rest and "=" not in rest:
            return own(text, argument)
        raise ArgumentError(
            f"{argument}: expected {', '.join(sorted(known))}, or MODULE:NAME or FILE.py:NAME of your own, got {text!r}"
            f"{like(name, known)}"
        )
    make = known[name]
    hints = get_type_hints(make.__init__ if isclass(make) else make)
    parameters = signature(make).parameters
    options = {}
    for part in rest.split(",") if rest else ():
        option, _, value = part.partition("=")
        if option not in parameters:
            raise ArgumentError(
                f"{argument}: expected options of {name} ({', '.join(parameters) or 'it has none'}), got {part!r}"
            )
        options[option] = _value(value, hints[option], f"{argument}: {name}:{option}")
    missing = [one.name for one in parameters.values() if one.default is Parameter.empty and one.name not in options]
    if missing:
        raise ArgumentError(f"{argument}: expected {name}:{missing[0]}=..., got {text!r}")
    try:
        return make(**options)
    except EdgecascadeError as error:
        raise ArgumentError(f"{argument}: {error}") from error


def own(text: str, argument: str) -> Any:
    """Return the user's own object: the attribute of a module, or an instance if it is a class.

    Modules are also looked for in the working folder.

    Args:
        text: `PACKAGE.MODULE:NAME` or `FILE.py:NAME`.
        argument: the name of the argument for error messages.

    Raises:
        ArgumentError: the text has another form, the module cannot be imported, or the object is not callable.
    """
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise ArgumentError(f"{argument}: expected MODULE:NAME or FILE.py:NAME, got {text!r}")
    path = Path(where)
    sys.path.insert(0, str((path.parent if path.suffix == ".py" else Path()).resolve()))
    try:
        module = _imported(path) if path.suffix == ".py" else import_module(where)
        if not hasattr(module, name):
            raise ArgumentError(f"{argument}: cannot import {name!r} from {where}{like(name, vars(module))}")
        found = getattr(module, name)
        found = found() if isclass(found) else found
    except EdgecascadeError:
        raise
    except (Exception, SystemExit) as error:  # a module may raise anything as it is imported
        raise ArgumentError(f"{argument}: cannot import {name!r} from {where}: {first_line(error)}") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ArgumentError(f"{argument}: expected a function, got a {type(found).__name__} at {text}")
    return found


def _imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def like(name: str, known: Iterable[str]) -> str:
    """Return a question about the known name that is nearest to a name, or an empty text."""
    from difflib import get_close_matches  # in an error only

    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _value(text: str, hint: Any, where: str) -> Any:
    """Return an option's text as the type of its parameter: the first of a union, or text."""
    words = {"yes": True, "true": True, "no": False, "false": False}
    kinds = [one for one in getattr(hint, "__args__", (hint,)) if one is not type(None)]
    kind = kinds[0] if kinds[0] in (bool, int, float) else str
    if text == "none" and type(None) in getattr(hint, "__args__", ()):
        return None
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        wanted = "yes or no" if kind is bool else "a whole number" if kind is int else "a number"
        raise ArgumentError(f"{where}: expected {wanted}, got {text!r}") from error
