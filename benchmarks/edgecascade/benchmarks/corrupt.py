"""Images as a worse camera would give them: the corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019).

Their parameters are meant for images of about 224 pixels, so smaller ones are enlarged first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import BenchmarkError

__all__ = ["CORRUPTIONS", "corrupted"]

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "contrast", "jpeg_compression", "brightness")
_SIDE = 224


def corrupted(
    images: NDArray[np.uint8], corruption: str, severity: int, *, seed: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Each of the RGB images [n, h, w, 3], enlarged to 224 x 224 and corrupted.

    Args:
        images: uint8.
        corruption: one of `CORRUPTIONS`, or any other name of ImageNet-C.
        severity: 1 to 5; 0 only enlarges.
        seed: of numpy's legacy generator, which the library draws from.
    """
    from PIL import Image

    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise BenchmarkError("imagecorruptions is not installed: pip install 'edgecascade[corruptions]'") from error
    np.random.seed(seed)
    for image in images:
        large = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
        yield corrupt(large, corruption_name=corruption, severity=severity) if severity else large
