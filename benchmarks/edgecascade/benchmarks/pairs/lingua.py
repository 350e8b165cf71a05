"""Lingua as a remote that is not ONNX: n-gram models of every language, a gigabyte in memory.

https://github.com/pemistahl/lingua-py, Apache-2.0; a Rust library with Python bindings. Its compiled library, language
models included, is checked by its checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.packages import sha256_of
from edgecascade.runtime.batch import Batch, are_sentences
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import BenchmarkError, RemoteError

__all__ = ["LinguaRemote", "check_library"]

_FLOOR = 0.01  # its rules give some languages exactly 0; does the right one, in under 1 % of the training snippets
_OWN_CODES = {"no": "nb"}  # it distinguishes Bokmål from Nynorsk
# SHA-256 of `lingua/lingua.*` in every wheel of lingua-language-detector 2.1.1 on the package index: CPython 3.10 to
# 3.13 on Linux (glibc and musl; x86-64 and arm64), macOS (arm64, x86-64) and Windows.
_KNOWN = {
    "2532be4ad56dad180ccfbbf0f88b1f8e0ce11533101690496cb45e4849cec6ea",
    "0734af812d11f091f87fc754998de32f9b997009e02bd6ad453669e7f5d59ce3",
    "c22550fb4eccff20497440f6ea6366c58946be29415aee1f450ae4d7b5968067",
    "443fa73d152f43c23968272a799ce70087a5e1ed7bc24adaf84c8e866eec7889",
    "53f7478b2293262c5688710ceba2b5734b9c843b303c88e0d17a4feaf86fab89",
    "9f0de47ee1a44dffcfeb599297a0817364586d0483d3f257f9ea08a96fdacfbc",
    "045b3e0146d44fc5891543e686b6a6adb2224667bbe0d4d0012cebfd0615163f",
    "751a936caf68191c898ee652e55afb25e1376778806fc031c46035e604367ab4",
    "eaaab8f6b566a9542f98afc646b67bef0de53537cb52d4d745141726593bf968",
    "3adb3054008968cff3bb99e05d98971ccdbef26fe8682bbcbd158c351c18d5c4",
    "7cff4dfb50145cddd9d3280fea9032dac6e7b49811c18450c76d4b296bd46815",
    "21c935000486ae07b20c7da703d246c29e200d961941445ae5dabb790635c61f",
    "8bad893f580e14acda007ec9ebc5ac25d871f127026624c8b07bdba56831d9d2",
    "7e19e7ef49dd4a5b2c1bc6ae2523202b7f7baf9cf6723abb9cb0aa8cfdc6ab06",
    "f72bbc50b131e4adab01c86851093decbb1c85ba53fe3e872fc49f35d1b52029",
    "716565fcdddf9b8c131d89d20915dced2cd358c3f85210dab30a36e21989a88a",
    "6020fcc0dee64f8f08181d1ee5a6dc0b3c4caf0efb78c6d0ad0046da22f5ebe3",
    "408ba63127d526488193f4a90f36ade285e7d343a587c065eee26a0d49eed253",
    "aba169b54071335b2e2679cdf8d2db7a495f216b8cf33c9cd358f9747284ef5d",
    "4e2db5573b274232dc4081bc78b8477d0cd5db23e6d40bec82966bbb3a16ff13",
    "94e80e15b0f0af0e124690ffb8057d046086678b4d30f35d054538562599d695",
    "7545b178cd3b9421b9704437a249fd965e93587cfd7127ce1782c17713926298",
    "72799f0f501df7be5b8142c125c1b9ae06f30815e71315fd2231f9d117a12c90",
    "c47a509c95fe91d23b500ca0b9acdab91330290e963bd9711bfa8b1c7e853344",
    "789f52dd345e91c181a3388b41a0ad07dd57a9b62c79317288dbedcecc3f6853",
    "c7ece2fe80f90c7febcfa436bbeeccd39bb4bf6013c383b5ce33eb122160f1be",
    "d768eba10fcdc1c64f44e3eeec2d44cef0a85684b9d6c2da6ac9ba3b6b0952e4",
    "c4f8a14b3bef91ed989e273f60d62e954a195455a75a65db4c30007e796586bb",
}


class LinguaRemote:
    """A `Remote` in this process: probabilities of languages for sentences.

    Lingua's rules on scripts and letters give most languages a probability of exactly zero. No temperature can correct
    that where the rules are wrong, so all languages share 1 % of the probability equally; no answer changes.

    Args:
        languages: ISO 639-1 codes, one per class, in the order of the labels.

    Raises:
        BenchmarkError: lingua is not installed, is another version than the results were made with, or does not know a
            language.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        try:
            from lingua import Language, LanguageDetectorBuilder
        except ModuleNotFoundError as error:
            raise BenchmarkError("lingua is not installed: pip install 'edgecascade-benchmarks[languages]'") from error
        check_library()
        known = {language.iso_code_639_1.name.lower(): language for language in Language.all()}
        own = [known.get(_OWN_CODES.get(code, code)) for code in languages]
        if None in own or len(set(own)) != len(own) or len(own) < 2:
            unknown = [code for code, language in zip(languages, own, strict=True) if language is None]
            raise BenchmarkError(
                "languages: expected two or more different ISO 639-1 codes that lingua knows, got "
                f"{', '.join(unknown or languages) or 'none'}"
            )
        chosen = [language for language in own if language is not None]
        self._columns = {language: column for column, language in enumerate(chosen)}
        self._detector: Any = LanguageDetectorBuilder.from_languages(*chosen).with_preloaded_language_models().build()

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[np.float64]:
        """Return probabilities float64 [n, classes] of sentences [n]; equal ones for a sentence without a letter.

        Raises:
            RemoteError: The inputs are not sentences.
            TimeoutError: The deadline passed before the last sentence.
        """
        if not are_sentences(inputs):
            seen = f"{inputs.dtype} {list(inputs.shape)}" if isinstance(inputs, np.ndarray) else "arrays by name"
            raise RemoteError(f"lingua: expected sentences [n], got {seen}")
        table = np.zeros((len(inputs), len(self._columns)))
        for row, sentence in zip(table, inputs, strict=True):
            if deadline.remaining() == 0:
                raise TimeoutError("lingua: the deadline passed")
            for found in self._detector.compute_language_confidence_values(str(sentence)):
                row[self._columns[found.language]] = found.value
        total = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, total, out=np.full_like(table, 1 / table.shape[1]), where=total > 0)
        floored: NDArray[np.float64] = (1 - _FLOOR) * shares + _FLOOR / table.shape[1]
        return floored

    def close(self) -> None:
        """Free the language models; the next call would load them again."""
        self._detector.unload_language_models()


def check_library(path: Path | None = None) -> None:
    """Check that this is the lingua that the results were made with.

    Args:
        path: The compiled library; by default that of the installed package.

    Raises:
        ModuleNotFoundError: lingua is not installed.
        BenchmarkError: It is another library.
    """
    if path is None:
        spec = find_spec("lingua.lingua")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("No module named 'lingua.lingua'", name="lingua")
        path = Path(spec.origin)
    seen = sha256_of(path)
    if seen not in _KNOWN:
        raise BenchmarkError(
            f"{path.name}: expected the library of a wheel of lingua-language-detector 2.1.1, got SHA-256 {seen}; "
            "not used"
        )
