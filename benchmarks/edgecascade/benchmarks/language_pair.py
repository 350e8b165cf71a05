"""Language identification: a bag of tokens on the device asks lingua, a remote that is no ONNX model.

Every step leaves a file in the cache, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_scores import ask
from edgecascade.benchmarks.language_model import language_body
from edgecascade.benchmarks.languages import LANGUAGES, Sizes, Snippets, load_languages
from edgecascade.benchmarks.lingua_remote import LinguaRemote
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.benchmarks.prepared import Prepared, planned_file
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import Objective
from edgecascade.export import calibrate, local_scores
from edgecascade.export.cache import once
from edgecascade.types.policy import RemoteCalibration

__all__ = ["LANGUAGES_METHOD", "language_pair", "prepare_languages"]

LANGUAGES_METHOD = (
    "A bag of 4,000 byte-level BPE tokens (local, 65,000 weights) and lingua 2.1.1 (remote, not ONNX), both choosing "
    "among the same 54 languages. Of each language's 1,000 sentences in the test data of the package eld 1.0.6, 600 "
    "trained the local model, 150 calibrated and planned, and 250 tested; of these 400, one snippet each. A snippet is "
    "three words, or six characters of Chinese, Japanese or Thai: whole sentences are too easy, and accuracies "
    "published for sentences or word pairs are not comparable. Every language weighs the same, as in no real traffic. "
    "Some lines of the source are in another language than their label says. The package does not say where its "
    "sentences come from; they read as news and web pages do. Lingua was trained on news of the Wortschatz corpora; "
    "whether some of these sentences were among them is not known, and its accuracy may be flattered. The local model "
    "was trained on the very source that tests it, and would do worse elsewhere. Lingua is in this process: there is "
    "no network in these latencies, and it answers in under a millisecond as a rule. What keeps it off a device is the "
    "gigabyte of memory that it takes."
)
_RECIPE = 1  # part of the cache's folder name: raise it when a step here, in the snippets or in the models changes


def prepare_languages(cache: Path, objective: Objective, sizes: Sizes | None = None) -> Prepared:
    """The cascade model, prepared if need be; lingua, loaded; and the snippets that test both.

    Args:
        cache: folder for downloads and finished steps.
        objective: what the cascade is planned for.
        sizes: of the splits.

    Raises:
        BenchmarkError: the `languages` extra is not installed, or the sentences could not be had.
    """
    sizes = sizes or Sizes()
    data, work = load_languages(cache, sizes), _work(cache, sizes)
    remote = LinguaRemote(LANGUAGES)
    scores = _lingua_scores(data, work, remote)

    def make(part: Path) -> None:
        body = language_body(data.train, work)
        local = local_scores(body, data.calibration.inputs)
        calibrate(body, part, data.calibration, local, scores["calibration"], objective=objective)

    return Prepared(once(work / planned_file("local", objective), make), remote, data.test, scores["test"])


def language_pair(cache: Path) -> PairOutputs:
    """What both say about the snippets that calibrate and, after them, those that test; each of its own sentence."""
    data, work = load_languages(cache), _work(cache, Sizes())
    body, parts = language_body(data.train, work), (data.calibration, data.test)
    remote = np.concatenate(list(_lingua_scores(data, work).values()))
    return PairOutputs(
        "languages",
        np.concatenate([local_scores(body, part.inputs) for part in parts]).astype(np.float32),
        RemoteCalibration(1.0, True).logits(remote).astype(np.float32),
        np.concatenate([part.labels for part in parts]),
    )


def _lingua_scores(data: Snippets, work: Path, remote: LinguaRemote | None = None) -> dict[str, NDArray[np.float64]]:
    """Lingua's probabilities float64 [n, classes] of the snippets that calibrate and that test, by split."""

    def make(part: Path) -> None:
        answers: dict[str, NDArray[Any]] = {}
        with nullcontext(remote) if remote else closing(LinguaRemote(LANGUAGES)) as asked:
            for split, labelled in (("calibration", data.calibration), ("test", data.test)):
                with counting(f"lingua {split}", len(labelled.labels)) as done:
                    answers[split] = ask(asked, labelled.inputs, len(LANGUAGES), progress=done, name="lingua")
        with part.open("wb") as file:  # numpy would add a suffix to a bare name
            np.savez(file, allow_pickle=False, **answers)

    with np.load(once(work / "lingua.npz", make)) as saved:
        return {split: saved[split] for split in ("calibration", "test")}


def _work(cache: Path, sizes: Sizes) -> Path:
    splits = f"{sizes.train}-{sizes.calibration}-{sizes.test}"
    return cache / f"languages-r{_RECIPE}-{splits}-s{sizes.seed}"
