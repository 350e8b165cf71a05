"""Arm processors by name: Linux tells no model there, but who designed each core, and which design it is."""

from __future__ import annotations

__all__ = ["arm_processor"]

_ARM, _NVIDIA = 0x41, 0x4E  # implementers, as Arm's Main ID Register counts them
_DESIGNS = {
    (_ARM, 0xC07): "Cortex-A7",
    (_ARM, 0xD03): "Cortex-A53",
    (_ARM, 0xD04): "Cortex-A35",
    (_ARM, 0xD05): "Cortex-A55",
    (_ARM, 0xD07): "Cortex-A57",
    (_ARM, 0xD08): "Cortex-A72",
    (_ARM, 0xD09): "Cortex-A73",
    (_ARM, 0xD0A): "Cortex-A75",
    (_ARM, 0xD0B): "Cortex-A76",
    (_ARM, 0xD0C): "Neoverse-N1",
    (_ARM, 0xD0D): "Cortex-A77",
    (_ARM, 0xD40): "Neoverse-V1",
    (_ARM, 0xD41): "Cortex-A78",
    (_ARM, 0xD42): "Cortex-A78AE",
    (_ARM, 0xD44): "Cortex-X1",
    (_ARM, 0xD46): "Cortex-A510",
    (_ARM, 0xD47): "Cortex-A710",
    (_ARM, 0xD49): "Neoverse-N2",
    (_ARM, 0xD4F): "Neoverse-V2",
    (_ARM, 0xD80): "Cortex-A520",
    (_ARM, 0xD81): "Cortex-A720",
    (_NVIDIA, 0x003): "Denver 2",
    (_NVIDIA, 0x004): "Carmel",
}  # what boards have; any other is told by its numbers


def arm_processor(implementers: list[str], parts: list[str]) -> str | None:
    """The designs of a processor's cores, each once; None if it is no Arm processor.

    Args:
        implementers: `CPU implementer` of each core, as `/proc/cpuinfo` has it.
        parts: `CPU part` of each core.
    """
    cores = dict.fromkeys(zip(implementers, parts, strict=False))
    return ", ".join(_name(*core) for core in cores) or None


def _name(implementer: str, part: str) -> str:
    try:
        return _DESIGNS[int(implementer, 16), int(part, 16)]
    except (KeyError, ValueError):
        return f"Arm core of implementer {implementer}, part {part}"
