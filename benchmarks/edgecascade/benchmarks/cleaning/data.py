"""The data sets whose labels are cleaned, and the experts that judge them.

Most experts are small scikit-learn models fitted on folds, on features that the built-in pairs already make; lingua and
the bag of tokens were trained on other rows. Labels are taken as right, apart from those that are planted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once

if TYPE_CHECKING:
    from edgecascade.benchmarks.pairs.languages import Snippets

__all__ = ["DATA_SETS", "SEED", "DataSet", "Expert", "Task"]

SEED = 2601
_FOLDS = 4
_IMAGES = 7500  # of CIFAR-10's 10,000; the others test
_CLOTHES = 10_000  # of Fashion-MNIST's 60,000; its own test images test
_SNIPPETS = 10_000  # of 13,467; those that calibrate the built-in pair test
_DIGITS = 1200  # of scikit-learn's 1,797


@dataclass(frozen=True)
class Expert:
    """A model that judges labels.

    Attributes:
        name: The name in tables.
        make: Makes an unfitted scikit-learn classifier; None if `inputs` are the outputs themselves.
        inputs: What it is fitted on and judges, [n, ...] of the judged rows.
        test: The same for the test rows; None if it is never trained again.
        scores: What its outputs are: logits (logarithms of probabilities), or probabilities.
    """

    name: str
    make: Callable[[], Any] | None
    inputs: Any
    test: Any = None
    scores: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True)
class Task:
    """One data set.

    Attributes:
        labels: int64 [n], the right labels of the judged rows.
        folds: int64 [n], the part of the data that each row is judged in.
        test_labels: int64 [m], of rows that are only tested on.
        experts: Three or more.
        weak: Another expert, much worse than the others.
        rival: A model that is no expert, for wrong labels that depend on the input.
        learner: Which of the experts is trained again on cleaned labels.
        classes: The number of classes.
    """

    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    experts: tuple[Expert, ...]
    weak: Expert
    rival: Expert
    learner: int
    classes: int


@dataclass(frozen=True)
class DataSet:
    """How a data set is named and loaded.

    Attributes:
        name: The name on the command line and in the cache.
        title: The title in tables.
        load: Loads it from the cache, downloading what is missing.
    """

    name: str
    title: str
    load: Callable[[Path], Task]


def _flagship(cache: Path) -> Task:
    """Three networks of different size and resolution, each with logistic regression on its features."""
    labels, features = _cifar(cache, ("efficientnet-lite0-96", "efficientnet-lite0-224", "efficientnet-lite2-260"))
    small, middle, large = (_components(one, 256, _IMAGES) for one in features)
    names = ("Lite0 at 96 px", "Lite0 at 224 px", "Lite2 at 260 px")
    experts = [_split(name, _logistic, one, _IMAGES) for name, one in zip(names, (small, middle, large), strict=True)]
    rival = _split("rival", _discriminant, middle[:, :64], _IMAGES)
    return _task(labels, experts, _split("mean colours", _gaussian, _pixels(cache), _IMAGES), rival, 2, _IMAGES)


def _small_flagship(cache: Path) -> Task:
    """Three small models on the features of the local network, all below .8 accuracy."""
    labels, (features, other) = _cifar(cache, ("efficientnet-lite0-96", "efficientnet-lite0-224"))
    small = _components(features, 64, _IMAGES)
    experts = [
        _split("logistic, 32 features", _logistic, small[:, :32], _IMAGES),
        _split("neighbours", _neighbours, small, _IMAGES, "probabilities"),
        _split("naive Bayes", _gaussian, small[:, :32], _IMAGES),
    ]
    rival = _split("rival", _discriminant, _components(other, 64, _IMAGES), _IMAGES)
    return _task(labels, experts, _split("mean colours", _gaussian, _pixels(cache), _IMAGES), rival, 0, _IMAGES)


def _fashion(cache: Path) -> Task:
    """Three small models on pixels."""
    from edgecascade.benchmarks.pairs.fashion_mnist import load_fashion_mnist

    train, test = load_fashion_mnist(cache)
    pixels = np.concatenate([np.asarray(train.inputs)[:_CLOTHES], np.asarray(test.inputs)]).reshape(-1, 784)
    labels = np.concatenate([train.labels[:_CLOTHES], test.labels])
    parts = _components(pixels, 100, _CLOTHES)
    experts = [
        _split("logistic", _logistic, parts, _CLOTHES),
        _split("neighbours", _neighbours, parts[:, :50], _CLOTHES, "probabilities"),
        _split("kernel discriminant", _kernel, parts, _CLOTHES),
    ]
    weak = _split("three features", _gaussian, parts[:, :3], _CLOTHES)
    return _task(labels, experts, weak, _split("rival", _discriminant, parts, _CLOTHES), 2, _CLOTHES)


def _languages(cache: Path) -> Task:
    """Lingua and the bag of tokens, trained on other rows, and naive Bayes on runs of one to three letters."""
    from edgecascade.benchmarks.pairs.bag_of_tokens import language_body
    from edgecascade.benchmarks.pairs.languages import language_scores
    from edgecascade.benchmarks.pairs.prepared import save_array
    from edgecascade.export import local_scores

    data, work, lingua = language_scores(cache)
    body = once(
        work / "body-test.npy",
        lambda part: save_array(part, local_scores(language_body(data.train, work), data.test.inputs)),
    )
    experts = [
        Expert("lingua", None, lingua["test"][:_SNIPPETS], scores="probabilities"),
        Expert("bag of tokens", None, np.load(body)[:_SNIPPETS]),
        _split("naive Bayes", _bayes, _letters(data, (1, 3)), _SNIPPETS),
    ]
    return _language_task(data, experts, 2)


def _small_languages(cache: Path) -> Task:
    """Three kinds of naive Bayes on runs of letters, all below .8 accuracy."""
    from edgecascade.benchmarks.pairs.languages import load_languages

    data = load_languages(cache)
    inputs = {
        "letters": _letters(data, (1, 1)),
        "runs of 3 to 5": _letters(data, (3, 5)),
        "pairs in 512 buckets": _letters(data, (2, 2), buckets=512),
    }
    return _language_task(data, [_split(name, _bayes, one, _SNIPPETS) for name, one in inputs.items()], 1)


def _digits(_: Path) -> Task:
    """Three small models on scikit-learn's 1,797 digits: seconds, for tests."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    pixels, labels = pixels[order] / 16, labels[order].astype(np.int64)
    experts = [
        _split("logistic", _logistic, pixels, _DIGITS),
        _split("neighbours", _neighbours, pixels, _DIGITS, "probabilities"),
        _split("naive Bayes", _gaussian, _components(pixels, 12, _DIGITS), _DIGITS),
    ]
    weak = _split("two rows", _gaussian, pixels[:, 16:32], _DIGITS)
    return _task(labels, experts, weak, _split("rival", _discriminant, pixels[:, ::2], _DIGITS), 0, _DIGITS)


DATA_SETS = {
    one.name: one
    for one in (
        DataSet("flagship", "CIFAR-10, three networks", _flagship),
        DataSet("flagship-small", "CIFAR-10, small models", _small_flagship),
        DataSet("fashion-mnist", "Fashion-MNIST", _fashion),
        DataSet("languages", "54 languages", _languages),
        DataSet("languages-small", "54 languages, small models", _small_languages),
        DataSet("digits", "digits", _digits),
    )
}


def _task(labels: NDArray[np.int64], experts: list[Expert], weak: Expert, rival: Expert, learner: int, n: int) -> Task:
    folds = np.random.default_rng(SEED).permutation(n) % _FOLDS
    return Task(labels[:n], folds, labels[n:], tuple(experts), weak, rival, learner, int(labels.max()) + 1)


def _language_task(data: Snippets, experts: list[Expert], learner: int) -> Task:
    labels = np.concatenate([data.test.labels[:_SNIPPETS], data.calibration.labels])
    weak = _split("words", _bayes, _letters(data, (1, 1), analyzer="word"), _SNIPPETS)
    rival = _split("rival", _bayes, _letters(data, (2, 4)), _SNIPPETS)
    return _task(labels, experts, weak, rival, learner, _SNIPPETS)


def _split(
    name: str, make: Callable[[], Any], inputs: Any, n: int, scores: Literal["logits", "probabilities"] = "logits"
) -> Expert:
    """Return an expert whose first n inputs are judged; the others test."""
    return Expert(name, make, inputs[:n], inputs[n:], scores)


def _cifar(cache: Path, variants: tuple[str, ...]) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
    """Return the labels of the 10,000 images, and the features of each network for them."""
    from edgecascade.benchmarks.pairs import flagship
    from edgecascade.export import LabelledData

    protocol = flagship.Protocol()
    head, *others = flagship.split(protocol, cache)
    rest = LabelledData(
        np.concatenate([np.asarray(part.inputs) for part in others]),
        np.concatenate([part.labels for part in others]),
        head.names,
        "".join(part.digest for part in others),
    )
    known = {
        f"{one.architecture}-{one.size}": one for one in (flagship.LITE0_96, flagship.LITE0_224, flagship.LITE2_260)
    }
    features = []
    for name in variants:
        parts = [
            once(cache / folder / f"{name}-features.npy", partial(flagship.save_features, known[name], data, cache))
            for folder, data in ((protocol.folder, head), (f"cleaning-r1-s{protocol.seed}", rest))
        ]
        features.append(np.concatenate([np.load(part) for part in parts]))
    return np.concatenate([head.labels, rest.labels]), features


def _pixels(cache: Path) -> NDArray[np.float32]:
    """Return the mean colours of four quarters of each image, [10000, 12]."""
    from edgecascade.benchmarks.pairs import flagship

    parts = flagship.split(flagship.Protocol(), cache)
    images = np.concatenate([np.asarray(part.inputs) for part in parts]).astype(np.float32)
    quarters = images.reshape(-1, 2, 16, 2, 16, 3).mean(axis=(2, 4))
    return np.asarray(quarters.reshape(len(images), -1) / 255, np.float32)


def _letters(data: Snippets, run: tuple[int, int], buckets: int = 1 << 15, analyzer: str = "char_wb") -> Any:
    """Return how often each hashed run of letters, or word, occurs: sparse, the judged snippets before the others."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [*np.asarray(data.test.inputs)[:_SNIPPETS].tolist(), *np.asarray(data.calibration.inputs).tolist()]
    hashing = HashingVectorizer(
        analyzer=analyzer, ngram_range=run, n_features=buckets, alternate_sign=False, norm=None, dtype=np.float32
    )
    return hashing.transform(texts)


def _components(features: NDArray[np.floating], count: int, n: int) -> NDArray[np.float32]:
    """Return principal components, found on the first n rows, in units of the first one's standard deviation."""
    from sklearn.decomposition import PCA

    found = PCA(count, svd_solver="randomized", random_state=0).fit(features[:n]).transform(features)
    return np.asarray(found / found[:n, 0].std(), np.float32)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=30)  # as accurate as when converged, and several times as fast


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(20, algorithm="brute")


def _gaussian() -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


def _bayes() -> Any:
    from sklearn.naive_bayes import MultinomialNB

    return MultinomialNB(alpha=0.1)


def _discriminant() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)


def _kernel() -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline

    return make_pipeline(Nystroem(n_components=600, gamma=0.05, random_state=0), _discriminant())
