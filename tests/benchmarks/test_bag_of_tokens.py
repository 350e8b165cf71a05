"""The local model of the language pair: small, trained here, and fed with text."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs.bag_of_tokens import language_body
from edgecascade.calibration import MostAccuracy, softmax
from edgecascade.export import LabelledData, calibrate, local_scores
from edgecascade.runtime import Cascade, InputError


def _alphabets(n: int, seed: int) -> LabelledData:
    """Return snippets of four languages that use the same letters in different proportions."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrst"))
    shares = np.random.default_rng(0).dirichlet(np.full(len(letters), 0.7), 4)
    labels = rng.integers(0, 4, n)
    texts = [" ".join("".join(rng.choice(letters, 4, p=shares[label])) for _ in range(3)) for label in labels]
    return LabelledData(np.array(texts), labels, ("one", "two", "three", "four"), f"{seed:064x}")


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the local model on four artificial languages."""
    return language_body(_alphabets(3000, 1), tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def cascade(body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibrate a cascade model of it in another folder, with a remote that is wrong one time in ten."""
    calibration, path = _alphabets(800, 2), tmp_path_factory.mktemp("cascade") / "local.onnx"
    rng = np.random.default_rng(0)
    said = np.where(rng.random(800) < 0.1, rng.integers(0, 4, 800), calibration.labels)
    remote = softmax(np.eye(4)[said] * 4 + rng.normal(size=(800, 4)))
    scores = local_scores(body, calibration.inputs)
    calibrate(body, path, calibration, scores, remote, objective=MostAccuracy(0.2))  # also checks parity
    return path


def test_a_cascade_of_the_model_takes_sentences(body: Path, cascade: Path) -> None:
    """Alone or in a batch, the answer is the argmax of the saved scores."""
    test = _alphabets(200, 3)
    saved = local_scores(body, test.inputs).argmax(axis=1)
    assert (saved == test.labels).mean() > 0.6  # out of four
    with Cascade.load(cascade) as loaded:
        alone = [loaded.predict(text) for text in np.asarray(test.inputs).tolist()]
        together = loaded.predict_batch(np.asarray(test.inputs))
    assert [answer.local.label for answer in alone] == saved.tolist()
    assert [answer.local.label for answer in together] == saved.tolist()
    assert alone[0].name == test.names[int(saved[0])]


@pytest.mark.parametrize("text", [" ", "\n", "a" * 100_000, "ሄሮዶቶስ 我 🙂", "a\x00b", "e\u0301"])
def test_any_text_has_an_answer(cascade: Path, text: str) -> None:
    """Blank, long and foreign text is answered: no token is unknown, and long text is truncated."""
    with Cascade.load(cascade) as loaded:
        assert 0.25 <= loaded.predict(text).local.confidence <= 1.0
        with pytest.raises(InputError, match=r"^x: expected text with at least one token, got ''"):
            loaded.predict("")


def test_the_remote_is_sent_the_sentence(cascade: Path) -> None:
    """The remote gets text, and its probabilities, some of them 0, are read as probabilities."""
    asked: list[str] = []

    def remote(sentences: NDArray[np.str_]) -> NDArray[np.float64]:
        asked.extend(sentences.tolist())
        return np.tile([0.0, 0.0, 1.0, 0.0], (len(sentences), 1))

    with Cascade.load(cascade, remote=remote, threshold=2.0, deadline=30.0) as loaded:
        answer = loaded.predict("Abc def ghi")
    assert asked == ["Abc def ghi"]
    assert answer.remote is not None
    assert answer.remote.label == 2
    assert 0.9 < answer.remote.confidence < 1.0  # a zero counts as a little more, as it was rounded


def test_training_twice_gives_the_same_model(body: Path, tmp_path: Path) -> None:
    """The tokens are the same and, on one machine, so are the weights."""
    again = language_body(_alphabets(3000, 1), tmp_path)
    for name in ("tokenizer.json", "body.onnx"):
        assert again.with_name(name).read_bytes() == body.with_name(name).read_bytes()
