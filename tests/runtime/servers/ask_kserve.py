"""KServe's client: `ask_kserve.py ADDRESS NAME` asks a server of `test_serving.py`, and prints what it says as JSON."""

import asyncio
import json
import sys

import numpy as np

address, name = sys.argv[1:]
sys.argv = sys.argv[:1]  # kserve parses the command line when it is imported

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402


async def main() -> None:
    """Ask for health and metadata, then for answers with JSON and with binary tensors."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    said = {
        "live": await client.is_server_live(address),
        "ready": await client.is_server_ready(address),
        "model": await client.is_model_ready(address, name),
    }
    for binary in (False, True):
        tensor = InferInput("ids", [4], "INT64")
        tensor.set_data_from_numpy(np.array([0, 1, 2, 3]), binary_data=binary)
        request = InferRequest(model_name=name, infer_inputs=[tensor], request_id="seven")
        if binary:
            request.parameters = {"binary_data_output": True}
        reply = await client.infer(address, request, model_name=name)
        outputs = {one.name: one.as_numpy().tolist() for one in reply.outputs}
        said["binary" if binary else "json"] = {"id": reply.id, **outputs}
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main())
