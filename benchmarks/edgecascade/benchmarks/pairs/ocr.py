"""The pair `ocr`: PP-OCRv3 reads a line of text on the device, and asks PP-OCRv6 small.

Both recognition networks come from packages of RapidOCR, and the lines are rendered: see `rapidocr.py` and
`rendering.py`. The confidence is the mean log-probability of the characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs.prepared_task import (
    PreparedTask,
    Sizes,
    TaskModels,
    TaskSplit,
    prepare_task,
)
from edgecascade.benchmarks.pairs.rapidocr import PROBABILITIES, READ_V3, READ_V6, tokens_only
from edgecascade.benchmarks.pairs.rendering import LINE_SHAPE, Renderer
from edgecascade.calibration import Objective
from edgecascade.calibration.confidence import Verifier
from edgecascade.calibration.verifiers import CharacterAccuracy, ExactMatch
from edgecascade.export.data import ReferencedData
from edgecascade.export.task.confidence import MeanLogProbability
from edgecascade.runtime.decode import Ctc

__all__ = ["LINES", "Tokens", "ocr_lines", "ocr_models", "prepare_ocr"]

LINES = Sizes(planning=800, test=800)
_RECIPE = 1  # part of the cache's folder name: raise it when the models or the lines change


def prepare_ocr(cache: Path, objective: Objective, *, exact: bool = False, sizes: Sizes = LINES) -> PreparedTask:
    """Return the pair as a cascade file with the lines that test it; finished steps are taken from the cache."""
    name = f"{'exact' if exact else 'characters'}-{sizes.planning}-{sizes.test}"
    return prepare_task(ocr_models(cache, exact=exact), ocr_lines(cache, sizes), objective, name)


def ocr_models(cache: Path, *, exact: bool = False) -> TaskModels:
    """Return both networks.

    Args:
        cache: The folder of downloads and finished steps.
        exact: Whether a line with any wrong character is worth nothing; otherwise 1 less the rate of wrong characters.
    """
    work = cache / f"ocr-r{_RECIPE}"
    reader = READ_V6.body(cache, LINE_SHAPE, work / "large-probabilities.onnx")
    verifier: Verifier[str] = ExactMatch() if exact else CharacterAccuracy()
    return TaskModels(
        name="ocr",
        body=READ_V3.body(cache, LINE_SHAPE, work / "body.onnx"),
        remote=tokens_only(reader, work / "large.onnx"),
        confidence=MeanLogProbability(output=PROBABILITIES, kind="probabilities", blank=0),
        verifier=verifier,
        decode=Ctc(READ_V3.characters(cache), output=PROBABILITIES),
        remote_decode=Tokens(READ_V6.characters(cache)),
    )


def ocr_lines(cache: Path, sizes: Sizes = LINES) -> TaskSplit:
    """Return rendered lines uint8 [n, 48, 320, 3] with their texts; no sentence is in both parts."""
    renderer = Renderer(cache)
    return sizes.split(lambda numbers: _part(renderer, numbers))


@dataclass(frozen=True)
class Tokens:
    """Text from the likeliest class of each step, where class 0 is CTC's blank.

    Attributes:
        characters: The text of each class after the blank.

    >>> Tokens("ab")({"tokens": np.array([0, 1, 1, 0, 1, 2])})
    'aab'
    """

    characters: Sequence[str]

    def __call__(self, outputs: Mapping[str, NDArray[Any]]) -> str:
        """Return the text of one input's `tokens` int64 [steps]."""
        tokens = outputs["tokens"]
        changed = np.concatenate([[True], tokens[1:] != tokens[:-1]])[: len(tokens)]
        return "".join(self.characters[one - 1] for one in tokens[changed & (tokens != 0)].tolist())


def _part(renderer: Renderer, numbers: range) -> ReferencedData:
    images, texts = renderer.lines(numbers)
    return ReferencedData(images, texts, renderer.digest(f"lines r{_RECIPE}", numbers))
