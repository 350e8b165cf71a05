"""Labelled data from what people have: npz files, folders of images, parquet, data sets of Hugging Face."""

from edgecascade.export.data.labelled import (
    Inputs,
    LabelledData,
    batches,
    class_folders,
    count,
    each,
    first,
    read_labelled,
)
from edgecascade.export.data.tables import EncodedImages

__all__ = [
    "EncodedImages",
    "Inputs",
    "LabelledData",
    "batches",
    "class_folders",
    "count",
    "each",
    "first",
    "read_labelled",
]
