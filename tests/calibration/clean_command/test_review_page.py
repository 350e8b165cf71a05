"""The review page, driven in a real browser from a file."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration.cleaning import Verdict
from edgecascade.calibration.commands.clean.drawn import Item
from edgecascade.calibration.commands.clean.media import Shown
from edgecascade.calibration.commands.clean.review import review_page
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile
from edgecascade.calibration.commands.clean.verdicts_file import read_verdicts

Run = Callable[..., int]

HOSTILE = '</script><img src=x onerror="document.title=1">&amp;"=1+1'
FORMULA = '=HYPERLINK("http://example.org")'


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page; errors and requests to elsewhere fail the test."""
    troubles: list[str] = []
    contexts: list[Any] = []

    def opened(path: Path, context: Any = None, **options: Any) -> Any:
        context = context or browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else troubles.append(asked.url),
        )
        page.goto(path.resolve().as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def data_of(path: Path) -> dict[str, Any]:
    """Return the data within a page."""
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def saved(page: Any, path: Path) -> Path:
    """Press the button that saves, and return the file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save verdicts").click()
    assert download.value.suggested_filename == "verdicts.csv"
    download.value.save_as(path)
    return path


def test_a_person_judges_with_five_keys(
    folder: Path, suspects: SuspectsFile, run: Run, opened: Callable[..., Any]
) -> None:
    """Keys 1 to 5 answer, arrows go back and forth, and the saved file has each verdict by name."""
    assert run("review", "suspects.parquet", "--data", "images.npy", "-n", 6, "-o", "review.html") == 0
    page = opened(folder / "review.html")
    items = data_of(folder / "review.html")["items"]
    assert page.get_by_role("button", name="Save verdicts").is_disabled()
    for number, key in enumerate("12345", start=1):
        assert page.inner_text("#place") == f"{number} of 6"
        shown = page.locator("#answers .label bdi").all_inner_texts()
        assert shown == items[number - 1]["labels"]
        page.keyboard.press(key)
        if key == "4":
            page.keyboard.type(next(name for name in suspects.names if name not in shown).upper())
            page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("[data-answer=cannot_tell]", "aria-pressed") == "true"
    page.keyboard.press("Backspace")
    assert page.inner_text("#place") == "4 of 6"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    page.keyboard.press("5")
    assert page.inner_text("#finished") == "All inputs are judged"
    assert page.evaluate("document.activeElement.id") == "finished"
    verdicts = read_verdicts(saved(page, folder / "verdicts.csv"), suspects)
    first = ["given" if one["given"] == 0 else "suggested" for one in items]
    second = ["given" if one["given"] == 1 else "suggested" for one in items]
    expected = [first[0], second[1], "both", "other", "both", "cannot_tell"]
    assert [Verdict(one.verdict).value for one in verdicts.judged.values()] == expected
    assert list(verdicts.judged) == [one["row"] for one in items]
    fourth = verdicts.judged[items[3]["row"]]
    assert fourth.label is not None
    assert suspects.name(fourth.label) not in items[3]["labels"]


def test_verdicts_survive_the_page(folder: Path, run: Run, opened: Callable[..., Any], browser: Any) -> None:
    """A page that is opened again goes on where it was left; another audit has its own verdicts."""
    for seed in (0, 1):
        assert run("review", "suspects.parquet", "--data", "texts.txt", "--seed", seed, "-o", f"{seed}.html") == 0
    context = browser.new_context()
    page = opened(folder / "0.html", context)
    page.keyboard.press("3")
    page.keyboard.press("5")
    page.close()
    page = opened(folder / "0.html", context)
    assert page.inner_text("#place").startswith("3 of ")
    assert "kept in this browser" in page.inner_text("#kept")
    assert opened(folder / "1.html", context).inner_text("#place").startswith("1 of ")


def test_a_browser_that_keeps_nothing_is_named(
    folder: Path, run: Run, opened: Callable[..., Any], browser: Any
) -> None:
    """Where storage is refused, the page says so, and verdicts are still saved."""
    assert run("review", "suspects.parquet", "--data", "texts.txt", "-n", 3, "-o", "review.html") == 0
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})")
    page = opened(folder / "review.html", context)
    page.keyboard.press("5")
    assert "save the verdicts before you close it" in page.inner_text("#kept")
    assert len(saved(page, folder / "verdicts.csv").read_text().splitlines()) == 2


def test_nothing_tells_the_given_label_from_the_suggested_one(
    folder: Path, suspects: SuspectsFile, run: Run, opened: Callable[..., Any]
) -> None:
    """Neither score, path nor a word is shown; the given label is the first in about half of the rows."""
    assert (
        run("review", "suspects.parquet", "--data", "images.npy", "--design", "all", "-n", 200, "-o", "review.html")
        == 0
    )
    items = data_of(folder / "review.html")["items"]
    assert 70 < Counter(one["given"] for one in items)[0] < 130
    for one in items:
        assert [one["labels"][one["given"]], one["labels"][1 - one["given"]]] == list(suspects.pair(one["row"]))
    page = opened(folder / "review.html")
    text = page.inner_text("body")
    assert items[0]["id"] not in page.content().split('id="data"')[0]
    assert re.search(r"\bgiven\b|score|0\.\d", text) is None
    page.keyboard.press("5")
    assert page.input_value("#csv") == ""


def test_text_of_the_data_stays_text(folder: Path, opened: Callable[..., Any]) -> None:
    """Markup in labels, texts, titles and ids is shown as it is, and comes back in the saved file."""
    items = [
        Item(7, HOSTILE, (HOSTILE, "b"), 0, Shown(text=HOSTILE)),
        Item(8, "", ("b", FORMULA), 0, Shown(text="\u202etext")),
    ]
    made = review_page(items, (HOSTILE, "b", FORMULA), "flagged-2-0-" + 16 * "0", title=HOSTILE, question=HOSTILE)
    (folder / "page.html").write_text(made, encoding="utf-8")
    page = opened(folder / "page.html")
    assert page.title() == page.inner_text("h1") == page.inner_text("#question") == HOSTILE
    assert page.inner_text("#input p") == page.inner_text("[data-answer='0'] bdi") == HOSTILE
    page.keyboard.press("1")
    page.keyboard.press("2")
    with saved(page, folder / "saved.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(one["row"], one["verdict"], one["given"]) for one in lines] == [
        ("7", "given", HOSTILE),
        ("8", "suggested", "b"),
    ]
    assert lines[0]["id"] == HOSTILE
    assert lines[1]["suggested"] == "'" + FORMULA


def test_a_wrong_class_is_not_taken(folder: Path, run: Run, opened: Callable[..., Any]) -> None:
    """Where neither label is right, only another class is accepted, or none; Escape returns to the answers."""
    assert run("review", "suspects.parquet", "--data", "texts.txt", "-n", 2, "-o", "review.html") == 0
    page = opened(folder / "review.html")
    labels = data_of(folder / "review.html")["items"][0]["labels"]
    for typed in ("no class", labels[1]):
        page.keyboard.press("4")
        page.fill("#right", typed)
        page.keyboard.press("Enter")
        assert page.inner_text("#wrong") != ""
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.dataset.answer") == "other"
    page.get_by_role("button", name="Neither").click()
    page.get_by_role("button", name="Continue").click()
    assert page.inner_text("#place") == "2 of 2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (360, 640), (740, 360)], ids=["wide", "phone", "landscape"])
def test_the_page_fits_and_can_be_read(
    folder: Path, run: Run, opened: Callable[..., Any], scheme: str, size: tuple[int, int]
) -> None:
    """Without scrolling sideways every answer is on the screen, large enough to touch, with a contrast of 4.5."""
    assert run("review", "suspects.parquet", "--data", "images.npy", "-n", 2, "-o", "review.html") == 0
    page = opened(folder / "review.html", viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for button in page.locator("#answers button").all():
        box = button.bounding_box()
        assert box["y"] + box["height"] <= size[1]
        assert min(box["height"], box["width"]) >= 44
    assert page.locator("img").evaluate("image => image.naturalWidth") == 16
    colours = page.locator("#place, #question, #kept, #answers button").evaluate_all(
        "found => found.map(one => [getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor])"
    )
    assert min(contrast(*pair) for pair in colours) >= 4.5
    page.keyboard.press("4")
    form = page.locator("#other").bounding_box()
    assert form["y"] + form["height"] <= page.locator("nav").bounding_box()["y"]


def test_a_tapped_answer_does_not_look_chosen_for_the_next_input(
    folder: Path, run: Run, opened: Callable[..., Any]
) -> None:
    """All answers look alike after a tap, and none has the focus."""
    assert run("review", "suspects.parquet", "--data", "images.npy", "-n", 2, "-o", "review.html") == 0
    page = opened(folder / "review.html", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.tap("[data-answer='0']")
    assert page.inner_text("#place") == "2 of 2"
    look = "found => found.map(one => getComputedStyle(one).backgroundColor + one.matches(':focus'))"
    assert len(set(page.locator("#answers button").evaluate_all(look))) == 1


def contrast(*colours: str) -> float:
    """Return the contrast of two CSS colours by WCAG 2."""
    parts = np.array([[int(part) for part in re.findall(r"\d+", one)[:3]] for one in colours]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    bright, dark = sorted(linear @ np.array([0.2126, 0.7152, 0.0722]), reverse=True)
    return float((bright + 0.05) / (dark + 0.05))


def test_audio_and_video_are_played_from_where_they_are(folder: Path, opened: Callable[..., Any]) -> None:
    """They get a player whose address is relative to the page; other files get a button without an address."""
    shown = (Shown(link="sound.wav", media="audio"), Shown(link="film.mp4", media="video"), Shown(link="cat/table.pdf"))
    items = [Item(row, "", ("a", "b"), 0, one) for row, one in enumerate(shown)]
    (folder / "sound.wav").write_bytes(wav())
    (folder / "film.mp4").write_bytes(bytes(64))
    (folder / "page.html").write_text(review_page(items, ("a", "b"), "all-3-0-" + 16 * "0"), encoding="utf-8")
    page = opened(folder / "page.html")
    page.wait_for_function("document.querySelector('audio').duration > 0")
    page.focus("audio")
    page.keyboard.press("1")
    assert page.get_attribute("video", "src") == "film.mp4"
    page.keyboard.press("1")
    assert page.inner_text("#input button") == "Open the input"
    assert "cat" not in page.inner_html("#input")


def wav() -> bytes:
    """Return a tenth of a second of silence."""
    samples = bytes(1600)
    head = b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = b"".join(
        value.to_bytes(size, "little") for value, size in ((1, 2), (1, 2), (8000, 4), (16000, 4), (2, 2), (16, 2))
    )
    return head + form + b"data" + len(samples).to_bytes(4, "little") + samples
