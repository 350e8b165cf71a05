"""The table of built-in pairs, as `bench demo` offers them; a pair's own modules are imported when it is prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.calibration import MostAccuracy, Objective
from edgecascade.types.errors import BenchmarkError

if TYPE_CHECKING:
    from edgecascade.benchmarks.pairs.llm import PreparedChat
    from edgecascade.benchmarks.pairs.prepared_task import PreparedTask

__all__ = ["BUILT_IN", "CHATS", "DEFAULT_IMAGES", "TASKS", "BuiltIn", "BuiltInChat", "BuiltInTask"]

Images = tuple[int, int, int]

_PACKAGES = {
    "languages": ("lingua", "tokenizers"),
    "llm": ("sklearn",),
    "tasks": ("PIL", "rapidfuzz"),
    "images": ("torch", "onnxscript", "starlette", "efficientnet_lite_pytorch", "debian", "sklearn"),
}  # what each extra installs to import

DEFAULT_IMAGES: Images = (5000, 1000, 4000)
_CIFAR = (
    "{0} CIFAR-10 images fitted both linear heads, {1} others calibrated and planned, and {2} others tested. All of "
    "them come from the test set of CIFAR-10, so the figures are not comparable with published CIFAR-10 results. The "
    "remote is a second process on the same machine: there is no network in these latencies."
)
_FASHION = (
    "Two convolutional networks trained on the 60,000 training images. 2,000 of the 10,000 test images calibrated and "
    "planned, and the 8,000 others tested: accuracies are comparable with published ones, except for the 2,000. The "
    "remote is a second process on the same machine: there is no network in these latencies."
)
_LANGUAGES = (
    "A bag of 4,000 byte-level BPE tokens (local, 65,000 weights, trained here) and lingua 2.1.1 (remote, not ONNX) "
    "choose among the same 54 languages. Of each language's 1,000 sentences in the test data of the package eld "
    "1.0.6, 600 trained the local model, 150 calibrated and planned, and 250 tested; the latter 400 gave one "
    "snippet each. A snippet is three words, or six characters of Chinese, Japanese or Thai: whole sentences are "
    "too easy, and accuracies published for sentences or word pairs are not comparable. All languages have the same "
    "weight, unlike in real traffic. Some lines of the source are in another language than their label. The package "
    "does not name the origin of the sentences, which read like news and web pages. Lingua was trained on news of "
    "the Wortschatz corpora; if some of these sentences were among them, its accuracy here is too high. The local "
    "model was trained on the source that tests it, and would do worse elsewhere. Lingua runs in this process: "
    "there is no network in these latencies, and it usually answers in under a millisecond. It needs a gigabyte of "
    "memory, too much for a device."
)
_RENDERED = (
    "The text is rendered: 59 typefaces of nine packages (OFL, Apache-2.0) show words from sentences of the package "
    "eld 1.0.6, made hard to read by low contrast, lost resolution, blur and noise. Such images have exact references, "
    "and are no photographs: how much a cascade wins on those, these figures do not show. All images are independent "
    "draws, and nothing was chosen on those of the test. Both models run in this process."
)
_OCR = (
    "PP-OCRv3's recognition network from rapidocr-onnxruntime 1.2.3 (local, 10.7 MB) and PP-OCRv6 small's from "
    "rapidocr 3.10.0 (remote, 21.2 MB), both of PaddleOCR (Apache-2.0), read the same lines of 8 to 22 ASCII "
    "characters at 48 x 320 pixels. {0} 800 lines planned, and 800 others tested. The local network was made for "
    f"Chinese and English, and often leaves out spaces. {_RENDERED}"
)
_DETECTION = (
    "PP-OCRv3's text detection network from rapidocr-onnxruntime 1.2.3 (2.4 MB, of PaddleOCR, Apache-2.0) sees scenes "
    "of 512 x 512 pixels with one to eight lines of text, at half that resolution (local) and in full (remote), which "
    "is four times the work. A value is the F1 of boxes that match at an intersection over union of 0.5. 500 scenes "
    "planned, and 1,000 others tested. How much boxes grow around text, and which pixels are unsure, was chosen on "
    "scenes that are in neither. PP-OCRv6 small's detector, with four times the work of PP-OCRv3's, was no better in a "
    f"trial on 40 other scenes. {_RENDERED}"
)
_RETRIEVAL = (
    "EfficientNet-Lite0 at 96 px (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on ImageNet and not "
    "trained any further, look for the ten photos most like a query among 2,000. A value is the share of the ten that "
    "shows what the query shows, one of ten classes: real photos and real labels, but a coarse idea of likeness. 1,000 "
    "queries planned, and 2,000 others tested. All photos come from the test set of CIFAR-10. Both models run in this "
    "process."
)

_LLM = (
    "Both are quantized to 4 bits. Their replies to questions of BIG-bench, after five examples as turns, were "
    "recorded once on llama.cpp (xllamacpp 2026.10.11549) with the log-probabilities of their tokens, and are pinned "
    "by the hashes of weights and prompts: the report needs no weights. The packages that ship Qwen's weights state no "
    "licence (Apache-2.0 upstream), so nothing downloads them unless asked. Tasks, answer form and examples were "
    "chosen, and everything was fitted, on a selection of the questions; the figures are from the others. Such models "
    "are small, and the larger one is trained for code: how much a cascade of other models wins, these figures do not "
    "show."
)


@dataclass(frozen=True)
class BuiltIn:
    """One pair of classifiers.

    Attributes:
        name: Its name on the command line, and that of the folder of its committed results.
        title: The title of its report.
        method: What it is made of and what its figures do not show, with places for three counts of images if these
            can be chosen.
        offload_rate: The offload rate planned for by default.
        extra: The optional dependencies it needs.
        prepare: Prepares the pair for an objective in the cache, from images if it takes them.
        served: Whether a second process can serve its remote.
    """

    name: str
    title: str
    method: str
    offload_rate: float
    extra: str
    prepare: Callable[[Path, Objective, Images], Prepared]
    served: bool = True

    def prepared(self, cache: Path, *, objective: Objective | None = None, images: Images | None = None) -> Prepared:
        """Prepare the pair, or find it in the cache.

        Args:
            cache: The folder of downloads and models.
            objective: What to plan for, instead of the most accuracy at the pair's offload rate.
            images: The number of images for the heads, for calibration and for the test.

        Raises:
            BenchmarkError: The pair takes no such images, or a package is missing.
        """
        if images is not None and not self.takes_images:
            raise BenchmarkError(f"images: expected none with {self.name}, whose data has its own splits, got {images}")
        _check_packages(self.name, self.extra)
        return self.prepare(cache, objective or MostAccuracy(self.offload_rate), images or DEFAULT_IMAGES)

    @property
    def takes_images(self) -> bool:
        """Whether the number of images can be chosen."""
        return "{0}" in self.method

    def described(self, images: Images | None = None) -> str:
        """Return the method with the counts of images."""
        return self.method.format(*(images or DEFAULT_IMAGES)) if self.takes_images else self.method


@dataclass(frozen=True)
class BuiltInTask:
    """One pair of a general task; attributes as of `BuiltIn`."""

    name: str
    title: str
    method: str
    offload_rate: float
    extra: str
    prepare: Callable[[Path, Objective], PreparedTask]

    def prepared(self, cache: Path, *, objective: Objective | None = None) -> PreparedTask:
        """Prepare the pair, or find it in the cache; arguments and errors as of `BuiltIn.prepared`."""
        _check_packages(self.name, self.extra)
        return self.prepare(cache, objective or MostAccuracy(self.offload_rate))


@dataclass(frozen=True)
class BuiltInChat:
    """One pair of language models, whose replies were recorded.

    Attributes:
        name: Its name on the command line, and that of the folder of its committed results.
        title: The title of its report.
        method: What it is made of and what its figures do not show.
        local: The name of the local model in the recorded file.
        remote: That of the remote.
        offload_rate: The offload rate planned for by default.
    """

    name: str
    title: str
    method: str
    local: str
    remote: str
    offload_rate: float = 0.3

    def prepared(self, objective: Objective | None = None) -> PreparedChat:
        """Plan the pair on the selection questions.

        Raises:
            BenchmarkError: A package is missing.
        """
        _check_packages(self.name, "llm")
        from edgecascade.benchmarks.pairs.llm import prepare_llm

        return prepare_llm(self.local, self.remote, objective or MostAccuracy(self.offload_rate))


def _check_packages(name: str, extra: str) -> None:
    missing = [package for package in _PACKAGES[extra] if find_spec(package) is None]
    if missing:
        raise BenchmarkError(f"{name} needs {', '.join(missing)}: pip install 'edgecascade-benchmarks[{extra}]'")


def _languages(cache: Path, goal: Objective, *_: object) -> Prepared:
    from edgecascade.benchmarks.pairs.languages import prepare_languages

    return prepare_languages(cache, goal)


def _fashion(cache: Path, goal: Objective, *_: object) -> Prepared:
    from edgecascade.benchmarks.pairs.fashion_mnist import prepare_fashion

    return prepare_fashion(cache, goal)


def _flagship(cache: Path, goal: Objective, images: Images) -> Prepared:
    from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_flagship

    return prepare_flagship(Protocol(*images, objective=goal), cache)


def _comparable(cache: Path, goal: Objective, images: Images) -> Prepared:
    from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_comparable

    return prepare_comparable(Protocol(*images, objective=goal), cache)


def _ocr(cache: Path, goal: Objective) -> PreparedTask:
    from edgecascade.benchmarks.pairs.ocr import prepare_ocr

    return prepare_ocr(cache, goal)


def _ocr_exact(cache: Path, goal: Objective) -> PreparedTask:
    from edgecascade.benchmarks.pairs.ocr import prepare_ocr

    return prepare_ocr(cache, goal, exact=True)


def _detection(cache: Path, goal: Objective) -> PreparedTask:
    from edgecascade.benchmarks.pairs.text_detection import prepare_detection

    return prepare_detection(cache, goal)


def _retrieval(cache: Path, goal: Objective) -> PreparedTask:
    from edgecascade.benchmarks.pairs.retrieval import prepare_retrieval

    return prepare_retrieval(cache, goal)


_PAIRS = (
    BuiltIn(
        "languages",
        "Language identification: a bag of tokens asks lingua, three words at a time",
        _LANGUAGES,
        0.2,
        "languages",
        _languages,
        served=False,
    ),
    BuiltIn(
        "fashion-mnist",
        "Fashion-MNIST: a network of 2,700 weights asks one of 96,500",
        _FASHION,
        0.2,
        "images",
        _fashion,
    ),
    BuiltIn(
        "comparable",
        "Comparable scale: Lite0 at 224 px asks Lite2 at 260 px, CIFAR-10 images",
        "EfficientNet-Lite0 at 224 px (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on ImageNet: two "
        f"models of similar accuracy, whose answers may be averaged. {_CIFAR}",
        0.3,
        "images",
        _comparable,
    ),
    BuiltIn(
        "flagship",
        "Small > large: Lite0 at 96 px asks Lite2 at 260 px, CIFAR-10 images",
        "EfficientNet-Lite0 at 96 px in int8 (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on "
        f"ImageNet. {_CIFAR}",
        0.2,
        "images",
        _flagship,
    ),
)
BUILT_IN = {pair.name: pair for pair in _PAIRS}
_TASKS = (
    BuiltInTask(
        "ocr",
        "OCR: PP-OCRv3 reads a line of text and asks PP-OCRv6",
        _OCR.format("A value is 1 minus the rate of wrong characters, at least 0."),
        0.3,
        "tasks",
        _ocr,
    ),
    BuiltInTask(
        "ocr-exact",
        "OCR, whole lines: PP-OCRv3 reads a line of text and asks PP-OCRv6",
        _OCR.format("A value is 1 where every character is right, and 0 otherwise."),
        0.3,
        "tasks",
        _ocr_exact,
    ),
    BuiltInTask(
        "text-detection",
        "Text detection: a network at half the resolution asks itself at full",
        _DETECTION,
        0.3,
        "tasks",
        _detection,
    ),
    BuiltInTask(
        "retrieval",
        "Photos alike: the features of Lite0 at 96 px ask those of Lite2 at 260 px",
        _RETRIEVAL,
        0.3,
        "images",
        _retrieval,
    ),
)
TASKS = {pair.name: pair for pair in _TASKS}
_CHATS = (
    BuiltInChat(
        "llm",
        "Language models: SmolLM2-135M asks Qwen2.5-Coder-1.5B",
        f"SmolLM2-135M-Instruct (local, 98 MB, Apache-2.0) and Qwen2.5-Coder-1.5B-Instruct (remote, 1.1 GB). {_LLM}",
        "smollm2-135m",
        "qwen-1.5b",
    ),
    BuiltInChat(
        "llm-qwen",
        "Language models: Qwen2.5-Coder-0.5B asks Qwen2.5-Coder-1.5B",
        f"Qwen2.5-Coder-0.5B-Instruct (local, 491 MB) and Qwen2.5-Coder-1.5B-Instruct (remote, 1.1 GB). {_LLM}",
        "qwen-0.5b",
        "qwen-1.5b",
    ),
)
CHATS = {pair.name: pair for pair in _CHATS}
