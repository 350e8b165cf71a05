"""The built-in pairs: each from public weights or data to a cascade model, its remote, and inputs to test both on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.fashion_pair import prepare_fashion
from edgecascade.benchmarks.flagship import Protocol, prepare_comparable, prepare_flagship
from edgecascade.benchmarks.language_pair import LANGUAGES_METHOD, prepare_languages
from edgecascade.benchmarks.prepared import Prepared
from edgecascade.calibration import MostAccuracy, Objective
from edgecascade.types.errors import BenchmarkError

__all__ = ["BUILT_IN", "BuiltIn"]

Images = tuple[int, int, int]

_CIFAR = (
    "{0} CIFAR-10 images fitted both linear heads, {1} others calibrated and planned, and {2} others tested. All of "
    "them come from CIFAR-10's test set, so the figures are not comparable with published CIFAR-10 results. The remote "
    "is a second process on the same machine: there is no network in these latencies."
)


@dataclass(frozen=True)
class BuiltIn:
    """One pair.

    Attributes:
        name: on the command line, and of the folder of its kept results.
        title: of its report.
        method: what it is made of, and what its figures do not show; with places for three counts of images if they
            can be chosen.
        budget: offload rate planned for, unless something else is asked for.
        prepare: what is not prepared yet, with that objective, in the cache.
        served: whether its remote can be served from a second process.
    """

    name: str
    title: str
    method: str
    budget: float
    prepare: Callable[[Path, Objective, Images, str | None], Prepared]
    served: bool = True

    def prepared(
        self,
        cache: Path,
        *,
        objective: Objective | None = None,
        images: Images | None = None,
        device: str | None = None,
    ) -> Prepared:
        """Ready to be measured.

        Args:
            cache: where downloads and models are kept.
            objective: what to plan for, instead of the most accuracy within the pair's budget.
            images: for the heads, for calibration and for the test.
            device: where torch runs the large model, in this process; by default a second process serves it.

        Raises:
            BenchmarkError: the pair is not made of such images, or its large model is not torch's.
        """
        if images is not None and not self.takes_images:
            raise BenchmarkError(f"images: expected none with {self.name}, whose data has its own splits, got {images}")
        if device is not None and not self.takes_images:
            raise BenchmarkError(
                f"torch: expected no device with {self.name}, only with the EfficientNets, got {device}"
            )
        return self.prepare(cache, objective or MostAccuracy(self.budget), images or DEFAULT_IMAGES, device)

    @property
    def takes_images(self) -> bool:
        """Whether the number of images can be chosen."""
        return "{0}" in self.method

    def described(self, images: Images | None = None) -> str:
        """The method, with the counts."""
        return self.method.format(*(images or DEFAULT_IMAGES)) if self.takes_images else self.method


DEFAULT_IMAGES: Images = (Protocol.head, Protocol.calibration, Protocol.test)
_PAIRS = (
    BuiltIn(
        "flagship",
        "Small > large: Lite0 at 96 px asks Lite2 at 260 px, CIFAR-10 images",
        "EfficientNet-Lite0 at 96 px in int8 (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on "
        f"ImageNet. {_CIFAR}",
        0.2,
        lambda cache, goal, images, device: prepare_flagship(Protocol(*images, objective=goal), cache, device),
    ),
    BuiltIn(
        "comparable",
        "Comparable scale: Lite0 at 224 px asks Lite2 at 260 px, CIFAR-10 images",
        "EfficientNet-Lite0 at 224 px (local) and EfficientNet-Lite2 at 260 px (remote), pretrained on ImageNet: two "
        f"models of much the same accuracy, whose answers may be averaged. {_CIFAR}",
        0.3,
        lambda cache, goal, images, device: prepare_comparable(Protocol(*images, objective=goal), cache, device),
    ),
    BuiltIn(
        "fashion-mnist",
        "Fashion-MNIST: a network of 2,700 weights asks one of 96,500",
        "Two convolutional networks trained on the 60,000 training images. 2,000 of the 10,000 test images calibrated "
        "and planned, and the 8,000 others tested: accuracies may be compared with published ones, but for the 2,000. "
        "The remote is a second process on the same machine: there is no network in these latencies.",
        0.2,
        lambda cache, goal, *_: prepare_fashion(cache, goal),
    ),
    BuiltIn(
        "languages",
        "Language identification: a bag of tokens asks lingua, three words at a time",
        LANGUAGES_METHOD,
        0.2,
        lambda cache, goal, *_: prepare_languages(cache, goal),
        served=False,
    ),
)
BUILT_IN = {pair.name: pair for pair in _PAIRS}
