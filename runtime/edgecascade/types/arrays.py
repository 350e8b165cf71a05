"""Take arrays in the forms of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.errors import CalibrationError, EdgecascadeError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_array"]


def as_array(given: Any, where: str, refusal: type[EdgecascadeError] = CalibrationError) -> NDArray[Any]:
    """Return an array of numpy as it is, a tensor of torch without its gradient, and others by `__array__`.

    Raises:
        refusal: numpy cannot hold it, such as bfloat16; or it is a list of rows of several lengths.
    """
    if isinstance(given, np.ndarray):
        return given
    try:
        return np.asarray(given.detach().cpu().numpy() if hasattr(given, "detach") else given)
    except (TypeError, ValueError, RuntimeError) as error:
        got = getattr(given, "dtype", type(given).__name__)
        raise refusal(f"{where}: expected an array that numpy can hold, got {got}: {first_line(error)}") from error
