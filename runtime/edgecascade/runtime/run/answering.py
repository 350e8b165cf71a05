"""Every input of a source to its answer, and every answer to a line."""

from __future__ import annotations

import asyncio

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.run.answer_line import answer_line
from edgecascade.runtime.run.console import Console
from edgecascade.runtime.run.given import Answered, Refused
from edgecascade.runtime.run.line_input import LineInput
from edgecascade.runtime.run.listening import Address
from edgecascade.runtime.run.live import answer_live, from_thread
from edgecascade.runtime.run.sources import Camera, Files, Source, StandardInput, Video
from edgecascade.runtime.run.status import Progress
from edgecascade.runtime.run.stop import Stop
from edgecascade.runtime.run.stored import answer_stored

__all__ = ["Answering"]


class Answering:
    """Answers sources, one after the other.

    Args:
        cascade: that answers.
        console: where lines go, but for those of sockets.
        progress: is shown every answer.
        stop: when to end.
        probabilities: whether lines have them.

    Attributes:
        refused: how many inputs could not be answered.
    """

    def __init__(
        self, cascade: Cascade, console: Console, progress: Progress, stop: Stop, *, probabilities: bool = False
    ) -> None:
        self._cascade, self._console, self._progress, self._stop = cascade, console, progress, stop
        self._probabilities = probabilities
        self._inputs = cascade.inputs
        self.refused = 0

    def answer(self, source: Source) -> None:
        """Answer all that comes from a source.

        Raises:
            ArgumentError: an address is taken, or not to be had.
            ModuleNotFoundError: an extra is not installed.
        """
        if isinstance(source, (Files, Video)):
            for one in answer_stored(self._cascade, source.items(self._inputs), stopped=lambda: bool(self._stop)):
                self._console.line(self._line(one))
            return
        if self._inputs.images and not isinstance(source, Camera):
            import PIL.Image  # noqa: F401  # to learn now, and not at the first line, that it is not installed

        asyncio.run(self._connections(source) if isinstance(source, Address) else self._live(source))

    async def _live(self, source: Camera | StandardInput) -> None:
        async def write(one: Answered | Refused) -> None:
            self._console.line(self._line(one))

        await answer_live(self._cascade, from_thread(source.chunks(self._inputs)), write, stop=self._stop)

    async def _connections(self, address: Address) -> None:
        from edgecascade.runtime.run.socket_lines import answer_connections

        reader = LineInput(self._inputs, paths=not address.anywhere)
        await answer_connections(
            self._cascade,
            address,
            reader,
            self._line,
            stop=self._stop,
            listening=lambda where: self._console.say(f"listening at {where}"),
        )

    def _line(self, one: Answered | Refused) -> dict[str, object]:
        self._progress.saw(one.answer if isinstance(one, Answered) else None)
        self.refused += isinstance(one, Refused)
        return answer_line(one, merged_by=self._cascade.policy.merge if self._probabilities else None)
