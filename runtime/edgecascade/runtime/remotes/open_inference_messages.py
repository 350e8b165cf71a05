"""The few messages of the Open Inference Protocol v2 over gRPC that a client needs.

They are described here and made at run time, in a pool of their own, because generated modules tie the user to
protobuf versions near the generator's, and clash with those of any other client of the protocol in the same
process. Fields that nobody here reads are left out: protobuf skips what it does not know.

Source: the protocol's `grpc_predict_v2.proto`, package `inference`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["make_messages"]

# message > field: number, type, and * where it is repeated
_MESSAGES = {
    "ModelMetadataRequest": "name:1 string, version:2 string",
    "TensorMetadata": "name:1 string, datatype:2 string, shape:3 int64*",
    "ModelMetadataResponse": "inputs:4 TensorMetadata*, outputs:5 TensorMetadata*",
    "InferTensorContents": (
        "bool_contents:1 bool*, int_contents:2 int32*, int64_contents:3 int64*, uint_contents:4 uint32*, "
        "uint64_contents:5 uint64*, fp32_contents:6 float*, fp64_contents:7 double*"
    ),
    "InferInputTensor": "name:1 string, datatype:2 string, shape:3 int64*",
    "InferRequestedOutputTensor": "name:1 string",
    "ModelInferRequest": (
        "model_name:1 string, model_version:2 string, inputs:5 InferInputTensor*, "
        "outputs:6 InferRequestedOutputTensor*, raw_input_contents:7 bytes*"
    ),
    "InferOutputTensor": "name:1 string, datatype:2 string, shape:3 int64*, contents:5 InferTensorContents",
    "ModelInferResponse": "outputs:5 InferOutputTensor*, raw_output_contents:6 bytes*",
}


def make_messages() -> dict[str, Any]:
    """A class for each message, by its name.

    Raises:
        ModuleNotFoundError: the `grpc` extra is not installed.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="edgecascade.proto", package="inference", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field in fields.split(", "):
            place, kind = field.split(" ")
            name, number = place.split(":")
            _describe(described.field.add(name=name, number=int(number)), kind.rstrip("*"), kind.endswith("*"))
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _MESSAGES}


def _describe(field: Any, kind: str, repeated: bool) -> None:
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".inference.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
