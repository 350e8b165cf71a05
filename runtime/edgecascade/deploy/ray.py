"""A cascade as an application of Ray Serve, behind the Open Inference Protocol v2.

    serve run edgecascade.deploy.ray:app local=local.onnx remote=large.onnx

The deployment `cascade` has the local model and the addresses; the deployment `large` has the large model. Each scales
by itself, and runs the requests together that wait for it. Both files must be at the same paths on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from edgecascade import Cascade
from edgecascade.deploy.pair import check_remote
from edgecascade.runtime.batch import Batch, run_together, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.onnx_file import OnnxFile
from edgecascade.runtime.remotes.remote import Replied, expect, expect_outputs
from edgecascade.runtime.serving.batcher import Batcher, Batching
from edgecascade.types.errors import ArgumentError, RemoteError, RemoteUnreachable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["app"]

_LARGE = "large"
_MOST_REQUESTS = 64  # that a replica answers at the same time; those beyond wait, and have Ray add replicas
_LONGEST = 3600.0  # seconds
_ARGUMENTS = ("local", "remote", "remote_output", "name", "deadline", "threshold", "max_batch")


def app(arguments: Mapping[str, Any]) -> Any:
    """Return the application, for `serve run` or `serve.run`.

    Numbers of replicas, CPUs and GPUs are options of the deployments `cascade` and `large` in a Serve config file. By
    default each has 1 to 4 replicas with one CPU.

    Args:
        arguments: by name, as text or values. `local`, the cascade file, and `remote`, the large model as an ONNX file,
            are needed. `remote_output` is its output with the scores, if that is not evident; `name` is that in the
            address (default cascade); `deadline` is in seconds (default 1); `threshold` replaces the file's;
            `max_batch` is the most inputs that requests share a run for (default 32).

    Raises:
        ArgumentError: an argument is missing, unknown or invalid, or the models do not fit together.
        ModelFileError: a file is missing, damaged or of another kind.
    """
    if wrong := [name for name in arguments if name not in _ARGUMENTS]:
        raise ArgumentError(f"arguments: expected {', '.join(_ARGUMENTS)}, got {', '.join(wrong)}")
    if missing := [name for name in ("local", "remote") if not arguments.get(name)]:
        raise ArgumentError(f"arguments: expected {' and '.join(missing)}, got {', '.join(arguments) or 'none'}")
    local, remote = (os.path.abspath(arguments[name]) for name in ("local", "remote"))
    if "://" in os.fspath(arguments["remote"]):
        raise ArgumentError(f"remote: expected an ONNX file, got the address {arguments['remote']}")
    output, name = arguments.get("remote_output"), str(arguments.get("name", "cascade"))
    if name in ("", ".", "..") or "/" in name:
        raise ArgumentError(f"name: expected a name without a slash, got {name!r}")
    batching = Batching(int(_number(arguments, "max_batch", 32)))
    deadline = _number(arguments, "deadline", 1.0)
    threshold = _number(arguments, "threshold", 0.0) if "threshold" in arguments else None
    large = OnnxFile(remote, output=output)
    with Cascade.load(local, remote=large, deadline=deadline, threshold=threshold) as cascade:
        check_remote(cascade, remote, output)
        wanted = cascade.document.remote_outputs if not cascade.labels else ()
        labels, class_names = cascade.labels, large.class_names
    from ray import serve

    def build() -> ASGIApp:  # in each replica
        asked = _Deployed(serve.get_deployment_handle(_LARGE), class_names)
        return _served(Cascade.load(local, remote=asked, deadline=deadline, threshold=threshold), name, batching)

    options: dict[str, Any] = {
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": _MOST_REQUESTS // 4},
        "max_ongoing_requests": _MOST_REQUESTS,
    }
    second = serve.deployment(_Large, name=_LARGE, **options).bind(remote, output, labels, wanted, batching)
    return serve.deployment(serve.ingress(build)(), name="cascade", **options).bind(second)


class _Large:
    """The large model in a replica."""

    def __init__(
        self, path: str, output: str | None, labels: Sequence[str], outputs: Sequence[str], batching: Batching
    ) -> None:
        self._model = OnnxFile(path, output=output)
        expect(self._model, labels) if labels else expect_outputs(self._model, outputs)
        self._batcher: Batcher[Batch, Any] = Batcher(self._run, batching)

    async def infer(self, inputs: Batch) -> Any:
        """Return the reply about inputs [n, ...], together with others that wait."""
        named = sorted(inputs.items()) if isinstance(inputs, Mapping) else [("", inputs)]
        kind = tuple((name, array.dtype.str, array.shape[1:]) for name, array in named)
        return await self._batcher(inputs, kind=kind, rows=size(inputs))

    def _run(self, batches: Sequence[Batch]) -> Sequence[Any]:
        def split(found: Any, sizes: Sequence[int]) -> list[Any]:
            ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
            return [found[end - n : end] for n, end in zip(sizes, ends, strict=True)]

        return run_together(batches, lambda batch: self._model.infer(batch, Deadline.after(_LONGEST)), split)


class _Deployed:
    """The deployment of the large model as a remote."""

    def __init__(self, handle: Any, class_names: tuple[str, ...]) -> None:
        self._handle, self.class_names = handle, class_names

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the reply of one of its replicas."""
        from ray.exceptions import RayTaskError

        try:
            found: Replied = self._handle.infer.remote(inputs).result(timeout_s=deadline.remaining())
        except TimeoutError:
            raise
        except RayTaskError as error:  # of the model; its words may hold data
            raise RemoteError(f"remote: it fails with {type(error.cause).__name__}") from error
        except Exception as error:
            raise RemoteUnreachable(f"remote: no replica of {_LARGE!r} answers: {type(error).__name__}") from error
        return found

    def close(self) -> None:
        """Do nothing."""


def _served(cascade: Cascade, name: str, batching: Batching) -> ASGIApp:
    """Return the application that `edgecascade serve` would serve, which closes the cascade when the replica ends."""
    from edgecascade.runtime.serving.endpoints import application
    from edgecascade.runtime.serving.served import served_cascade

    threads = ThreadPoolExecutor(thread_name_prefix="edgecascade-serve")
    served = application({name: served_cascade(cascade, threads, batching)})

    async def replica(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await served(scope, receive, send)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        cascade.close()
        threads.shutdown(wait=False)
        await send({"type": "lifespan.shutdown.complete"})
        return None

    return replica


def _number(arguments: Mapping[str, Any], name: str, default: float) -> float:
    given = arguments.get(name, default)
    try:
        found = float(given)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected a number, got {given!r}") from None
    if name == "max_batch" and not 1 <= found < 1 << 20:
        raise ArgumentError(f"{name}: expected 1 or more, got {given!r}")
    return found
