"""Answer images over HTTP with FastAPI; metrics are at /metrics.

pip install 'edgecascade[cpu,images]' fastapi uvicorn
CASCADE=local.onnx REMOTE=http://HOST:8000/v2/models/large TOKEN=... uvicorn service:app
curl --data-binary @photo.jpg http://127.0.0.1:8000/answers
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse

from edgecascade import Cascade
from edgecascade.runtime import InputError, prometheus_text


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the cascade once, in the process that answers."""
    logging.basicConfig(level=logging.WARNING)  # the logger `edgecascade` says why forwards fail
    remote, token = os.environ.get("REMOTE"), os.environ.get("TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    with Cascade.load(os.environ["CASCADE"], remote=remote, headers=headers, deadline=0.2) as cascade:
        app.state.cascade = cascade
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/answers")
async def answers(request: Request) -> dict[str, Any]:
    """Return the answer to the image in the body of the request."""
    try:
        answer = await request.app.state.cascade.predict_async(await request.body())
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    return {
        "name": answer.name,
        "confidence": answer.confidence,
        "source": answer.source.value,
        "reason": answer.reason.value,
        "detail": answer.detail,
    }


@app.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> str:
    """Return the counters in the format of Prometheus."""
    return prometheus_text(request.app.state.cascade.metrics())
