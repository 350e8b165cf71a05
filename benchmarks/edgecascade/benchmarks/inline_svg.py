"""A picture made ready to stand in a page beside others: ids of its own, a title, and a size that follows the page."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from edgecascade.benchmarks.section import Figure
from edgecascade.types.errors import BenchmarkError

__all__ = ["inline_svg"]

_SVG = "{http://www.w3.org/2000/svg}"
_DROPPED = {"metadata", "title", "desc"}
_REFUSED = {"script", "foreignObject", "iframe", "image", "a", "audio", "video"}
_LINK = re.compile(r"url\(\s*['\"]?(?!['\"]?#)|@import", re.IGNORECASE)
_SMALLEST, _LARGEST = 6.5, 14.0  # px that the smallest text may have on a narrow screen, and on a wide one
_DEFAULT_TEXT = 10.0


def inline_svg(figure: Figure) -> str:
    """The picture as an `<svg>` element for HTML.

    Its ids begin with the figure's name; it is an image with the caption as its title; width and height give way to
    the page's, between the widths at which its smallest text is 6.5 px (narrower, its box scrolls) and 14 px.

    Raises:
        BenchmarkError: it is no SVG, has no size, or needs something that is not in it.
    """
    try:
        root = ElementTree.fromstring(figure.svg)
    except ElementTree.ParseError as error:
        raise BenchmarkError(f"figure {figure.name}: expected an SVG document, got: {error}") from error
    if root.tag != f"{_SVG}svg":
        raise BenchmarkError(f"figure {figure.name}: expected an SVG document, got one of {root.tag[:60]}")
    smallest = _smallest_text(root)
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in _DROPPED]:
            parent.remove(child)
    ids = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    for element in root.iter():
        _rewrite(element, figure.name, ids)
    width, height = _size(root, figure.name)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    title = ElementTree.Element("title", id=f"{figure.name}--title")
    title.text = figure.caption
    root.insert(0, title)
    least, most = (width * size / smallest for size in (_SMALLEST, _LARGEST))
    root.attrib |= {
        "id": f"{figure.name}--svg",
        "role": "img",
        "aria-labelledby": f"{figure.name}--title",
        "viewBox": root.get("viewBox", f"0 0 {width:g} {height:g}"),
        "style": f"min-width: {math.floor(least)}px; max-width: {math.ceil(most)}px",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(element: ElementTree.Element, name: str, ids: set[str]) -> None:
    element.tag = _local(element.tag)  # inside HTML, an svg element needs no namespace
    if element.tag in _REFUSED:
        raise BenchmarkError(f"figure {name}: expected a picture that stands for itself, got a <{element.tag}> in it")
    attributes = {_local(key): value for key, value in element.attrib.items()}
    for key, value in attributes.items():
        if key.lower().startswith("on") or _LINK.search(value) or (key == "href" and not value.startswith("#")):
            raise BenchmarkError(f"figure {name}: expected a picture that stands for itself, got {key}={value[:60]!r}")
        attributes[key] = _own(key, value, name, ids)
    element.attrib.clear()
    element.attrib.update(attributes)
    if element.tag == "style":
        if _LINK.search(element.text or ""):
            raise BenchmarkError(f"figure {name}: expected a picture that stands for itself, got a link in its style")
        element.text = re.sub(r"(^|\})\s*([^{}]+)\{", rf"\1 #{name}--svg \2{{", element.text or "")


def _own(key: str, value: str, name: str, ids: set[str]) -> str:
    if (key == "id" and value in ids) or (key == "href" and value[1:] in ids):
        return f"#{name}--{value[1:]}" if key == "href" else f"{name}--{value}"
    return re.sub(r"url\(\s*['\"]?#([^)'\"]+)['\"]?\s*\)", rf"url(#{name}--\1)", value)


def _smallest_text(root: ElementTree.Element) -> float:
    sizes = []
    for text in root.iter(f"{_SVG}text"):
        size = re.search(r"(?:font|font-size):[^;]*?([\d.]+)px", text.get("style", ""))
        sizes.append(float(size[1]) if size else _DEFAULT_TEXT)
    return min((size for size in sizes if size > 0), default=_DEFAULT_TEXT)


def _size(root: ElementTree.Element, name: str) -> tuple[float, float]:
    box = re.findall(r"-?[\d.]+", root.get("viewBox", ""))[2:]
    sides = box or [number for key in ("width", "height") for number in re.findall(r"[\d.]+", root.get(key, ""))[:1]]
    try:
        width, height = (float(side) for side in sides)
    except ValueError:
        width = height = 0.0
    if min(width, height) <= 0:
        raise BenchmarkError(f"figure {name}: expected an SVG with a viewBox, or a width and a height")
    return width, height


def _local(name: str) -> str:
    return "xml:space" if name.endswith("}space") else name.rpartition("}")[2]
