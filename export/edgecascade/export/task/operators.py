"""Write ONNX operators one after the other, as one writes arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Operators"]


class Operators:
    """Operators and constants under construction. A call adds an operator and returns the name of its output.

    Args:
        prefix: what the name of everything that is added begins with.
        opset: version of the operators.

    >>> add = Operators("edgecascade/", 13)
    >>> largest = add.reduce("Max", add("Neg", "x"), axis=1)
    >>> [node.op_type for node in add.nodes], largest
    (['Neg', 'ReduceMax'], 'edgecascade/1_ReduceMax')
    """

    def __init__(self, prefix: str, opset: int) -> None:
        self._prefix, self._opset = prefix, opset
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def __call__(self, operator: str, *inputs: str | float | Sequence[int], name: str = "", **attributes: Any) -> str:
        """Add an operator.

        Args:
            operator: its type, such as `Add`.
            inputs: names of tensors; numbers and lists of whole numbers become constants, float32 or int64.
            name: of its first output; by default, one of its own.
            attributes: of the operator.
        """
        position = len(self.nodes)
        feeds = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        made = f"{self._prefix}{position}_{operator}"
        outputs = [name or made] + ([f"{made}_index"] if operator == "TopK" else [])
        self.nodes.append(helper.make_node(operator, feeds, outputs, name=f"{made}_node", **attributes))
        return outputs[0]

    def reduce(self, kind: str, x: str, *, axis: int, keepdims: bool = False, name: str = "") -> str:
        """Add a `ReduceMax`, `ReduceMean`, `ReduceMin` or `ReduceSum` over one axis, as the opset has it."""
        by_input = self._opset >= (13 if kind == "Sum" else 18)
        if by_input:
            return self(f"Reduce{kind}", x, [axis], name=name, keepdims=int(keepdims))
        return self(f"Reduce{kind}", x, name=name, keepdims=int(keepdims), axes=[axis])

    def wide(self, x: str, array: NDArray[Any]) -> str:
        """Return a tensor as float32; `array` has its type."""
        return x if array.dtype == np.float32 else self("Cast", x, to=TensorProto.FLOAT)

    def _constant(self, value: float | Sequence[int]) -> str:
        name = f"{self._prefix}constant_{len(self.constants)}"
        dtype = np.float32 if isinstance(value, (float, np.floating)) else np.int64
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name
