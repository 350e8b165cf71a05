"""Data from what people have: npz files, folders of images, parquet, data sets of Hugging Face, COCO, CSV."""

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
from edgecascade.export.data.references import InputFiles, ReferencedData, data_digest, read_coco, read_references
from edgecascade.export.data.tables import EncodedImages

__all__ = [
    "EncodedImages",
    "InputFiles",
    "Inputs",
    "LabelledData",
    "ReferencedData",
    "batches",
    "class_folders",
    "count",
    "data_digest",
    "each",
    "first",
    "read_coco",
    "read_labelled",
    "read_references",
]
