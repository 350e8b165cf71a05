"""Where the remote is asked: its own address, a second process if it is a file, or a proxy that shapes a network."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from edgecascade.benchmarks.errors import BenchmarkError
from edgecascade.benchmarks.latency.plan import DIRECT
from edgecascade.benchmarks.network import PROFILES
from edgecascade.benchmarks.network.proxy import LoopbackAddress, shaped
from edgecascade.benchmarks.server import serving

__all__ = ["Addresses", "check_remote"]


class Addresses:
    """Starts what is needed when it is first asked for, and ends it all on leaving.

    Args:
        remote: an address, or an ONNX file, which a second process then serves with as many threads as there are cores.
        log: of that process.
    """

    def __init__(self, remote: str | None, log: Path) -> None:
        self._remote, self._log = remote, log
        self._stack = ExitStack()
        self._found: dict[str, str] = {}

    def at(self, network: str) -> str | None:
        """The remote's address over a network, by its profile's name; None if there is no remote."""
        if self._remote is None:
            return None
        if network not in self._found:
            self._found[network] = self._open(network, self._remote)
        return self._found[network]

    def _open(self, network: str, remote: str) -> str:
        if network != DIRECT:
            direct = self.at(DIRECT)
            assert direct is not None
            return self._stack.enter_context(shaped(direct, PROFILES[network]))
        if "://" in remote:
            return remote
        self._log.parent.mkdir(parents=True, exist_ok=True)
        served = serving(Path(remote), name="remote", threads=os.cpu_count() or 1, log=self._log)
        return self._stack.enter_context(served)

    def __enter__(self) -> Addresses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def check_remote(remote: str | None, networks: tuple[str, ...]) -> None:
    """Refuse a remote or networks that cannot be measured.

    Raises:
        BenchmarkError: the file is missing, a profile is unknown, or the traffic of another machine would be shaped.
    """
    unknown = [name for name in networks if name not in (DIRECT, *PROFILES)]
    if unknown:
        raise BenchmarkError(f"--network: expected {DIRECT} or one of {', '.join(PROFILES)}, got {unknown[0]}")
    between = [name for name in networks if name != DIRECT]
    if remote is None:
        if between:
            raise BenchmarkError(f"--network: expected with --remote, which it lies before, got {between[0]} alone")
        return
    if "://" not in remote:
        if not Path(remote).is_file():
            raise BenchmarkError(f"--remote: expected an address or an ONNX file, got {remote}, which is neither")
        return
    if between:
        try:
            LoopbackAddress.parse(remote)
        except BenchmarkError as error:
            raise BenchmarkError(
                f"--network: expected a remote on this machine, whose traffic alone is shaped, got {remote}"
            ) from error
