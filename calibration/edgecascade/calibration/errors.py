"""The one exception of this part."""

__all__ = ["CalibrationError"]


class CalibrationError(ValueError):
    """The arrays given cannot support the number asked for; the message says why, and what would."""
