"""The cascade as a model of Triton: asks the local model, forwards what it forwards, and merges (BLS).

Triton's ensembles have no conditions, so this is a model of the Python backend. It needs numpy: the arithmetic is
edgecascade's own, of the version that wrote this folder, in the archive beside this file.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "edgecascade.zip"))

from edgecascade.runtime.bulk import merge_scores  # noqa: E402
from edgecascade.runtime.columns import Columns  # noqa: E402
from edgecascade.runtime.reply import failure_of, read_scores  # noqa: E402
from edgecascade.types.document import CascadeDocument  # noqa: E402
from edgecascade.types.errors import RemoteError  # noqa: E402

DECISIONS = ("label", "confidence", "advantage", "forward", "probabilities")


class TritonPythonModel:
    """One process of the cascade. Requests of a batch are answered at the same time, and batched again below."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the document, and the threshold if `config.pbtxt` has one."""
        self.cascade = json.loads((HERE / "cascade.json").read_text())
        document = CascadeDocument.from_dict(self.cascade["document"])
        self.labels, self.policy = document.labels, document.device_policy()
        self.names = np.array([label.encode() for label in self.labels], object)
        self.remote_names = tuple(self.cascade["class_names"])
        given = json.loads(args["model_config"]).get("parameters", {}).get("threshold")
        self.threshold = None if given is None else np.float32(given["string_value"])

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests."""
        return await asyncio.gather(*map(self.answer, requests))

    async def answer(self, request: Any) -> Any:
        """Return the response to one request; an error only if the local model fails."""
        inputs = {name: pb.get_input_tensor_by_name(request, name).as_numpy() for name in self.cascade["remote_inputs"]}
        try:
            decided = await self.ask(self.cascade["local"], inputs, DECISIONS)
        except RemoteError as error:
            return pb.InferenceResponse(error=pb.TritonError(str(error)))
        label, confidence, advantage, forward = (decided[name].reshape(-1) for name in DECISIONS[:4])
        advantage = np.where(np.isnan(confidence), np.float32(np.nan), advantage)  # else it means nothing
        if self.threshold is not None:
            forward = ~(advantage >= self.threshold)  # NaN is forwarded
        columns = Columns.decided(label, confidence, advantage, forward, decided["probabilities"])
        places = np.flatnonzero(forward)
        if len(places):
            columns = merge_scores(columns, [(places, await self.scores(inputs, places))], self.policy)
        return pb.InferenceResponse([pb.Tensor(name, array) for name, array in self.outputs(columns).items()])

    async def scores(self, inputs: dict[str, Any], places: Any) -> Any:
        """Return the calibrated scores of the remote for some of the inputs, or the reason why there are none."""
        remote, output = self.cascade["remote"], self.cascade["remote_output"]
        sent = {theirs: inputs[ours][places] for ours, theirs in self.cascade["remote_inputs"].items()}
        try:
            found = await self.ask(remote, sent, (output,))
            return read_scores(found[output], len(places), self.labels, self.policy, names=self.remote_names)
        except RemoteError as error:
            return failure_of(error)

    async def ask(self, model: str, inputs: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, Any]:
        """Return the outputs of another model of this server."""
        request = pb.InferenceRequest(
            model_name=model,
            requested_output_names=[*outputs],
            inputs=[pb.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
        )
        try:
            response = await request.async_exec()
        except pb.TritonModelException as error:
            raise RemoteError(f"{model}: {error}") from error
        if response.has_error():
            raise RemoteError(f"{model}: {response.error().message()}")
        return {name: pb.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}

    def outputs(self, columns: Any) -> dict[str, Any]:
        """Return the arrays of a response, [n, 1] but for the probabilities."""
        parts = {
            "label": columns.label,
            "name": self.names[columns.label],
            "confidence": columns.confidence,
            "advantage": columns.advantage,
            "source": columns.source.astype(object),
            "reason": columns.reason.astype(object),
            "forwarded": columns.forward,
        }
        return {"probabilities": columns.probabilities, **{name: part[:, None] for name, part in parts.items()}}
