"""Arguments that describe the remote."""

from __future__ import annotations

import json
import re
import ssl
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecascade.cli import rare
from edgecascade.runtime.remotes.remote import Remote, connect, is_chat, shown
from edgecascade.types.document import ANSWER_FORMS, AskedChat, Template
from edgecascade.types.errors import ArgumentError

if TYPE_CHECKING:
    from edgecascade.runtime.remotes.chat import Chat

__all__ = [
    "add_connection_arguments",
    "add_remote_arguments",
    "chat_of",
    "check_remote_arguments",
    "flag",
    "headers_of",
    "read_context",
    "read_template",
    "remote_of",
]

_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[ -~\xa1-\xff]*)")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
_OF_ADDRESSES = ("remote_input", "header", "header_file", "proxy", "ca", "cert", "key", "hedge", "no_retry")
_OF_CHAT = ("remote_model", "answer", "remote_prompt", "remote_fields")
_OF_TENSORS = ("remote_input", "remote_output")
_MODEL = "http[s]:// or grpc[s]://HOST:PORT/v2/models/NAME, http[s]://HOST/v1, or FILE.onnx."


def add_remote_arguments(
    parser: ArgumentParser, help: str = _MODEL, *, required: bool = False, in_use: bool = True
) -> None:
    """Add the arguments, as a group.

    Args:
        parser: the command's parser.
        help: what `--remote` may be.
        required: whether `--remote` must be given.
        in_use: whether to add how requests are repeated, which matters where answers have a deadline.
    """
    add = parser.add_argument_group("the remote").add_argument
    add("--remote", metavar="REMOTE", required=required, help=help)
    add("--remote-output", metavar="NAME", help="The remote's output that holds the logits, if it is not evident.")
    rare(add("--remote-input", metavar="NAME", help="The remote's input, if the server declares none or several."))
    model = add("--remote-model", metavar="NAME", help="Model to ask for at an address that ends in /v1.")
    if in_use:  # the file has its name
        rare(model)
    forms = "How a generative model answers: by the probabilities of letters or labels, or in text."
    rare(add("--answer", choices=ANSWER_FORMS, help=forms))
    prompt = "Template with {input} and {labels}: a text, or messages (.json)."
    rare(add("--remote-prompt", metavar="FILE", help=prompt))
    rare(add("--remote-fields", metavar="JSON", help="Further fields of chat requests, such as '{\"seed\": 1}'."))
    add("--header-file", metavar="FILE", help="Headers to send with every request, one 'Name: value' a line.")
    header = "Header to send (repeatable). Other users of this machine can read it: use --header-file for secrets."
    rare(add("--header", metavar="'NAME: VALUE'", action="append", default=[], help=header))
    add_connection_arguments(add)
    parser.set_defaults(hedge=False, no_retry=False)
    if not in_use:
        return
    hedge = "Send a second request when a reply takes longer than 95%% of the replies before."
    rare(add("--hedge", action="store_true", help=hedge))
    rare(add("--no-retry", action="store_true", help="Do not send a request again after a failure."))


def add_connection_arguments(add: Callable[..., Action]) -> None:
    """Add proxy and TLS by the method `add_argument` of a parser or a group."""
    proxy = (
        "HTTP proxy to the remote, http://[USER:PASSWORD@]HOST:PORT; other users of this machine can read it. "
        "Environment variables such as HTTPS_PROXY are not read."
    )
    rare(add("--proxy", metavar="URL", help=proxy))
    rare(add("--ca", metavar="FILE", help="Certificates (PEM) of the authorities to trust."))
    rare(add("--cert", metavar="FILE", help="Certificate (PEM) of this client, if a server asks for one."))
    rare(add("--key", metavar="FILE", help="Private key (PEM) of --cert, if it is in another file."))


def flag(name: str) -> str:
    """Return the option that sets an attribute of the parsed arguments."""
    return f"--{name.replace('_', '-')}"


def check_remote_arguments(arguments: Namespace) -> None:
    """Check that the arguments fit the kind of the remote.

    Raises:
        ArgumentError: one of them needs an address, or a remote at all; or an address has no scheme.
    """
    address = arguments.remote
    if address is not None and "://" in address:
        chat = is_chat(address)
        kind = "/v2/models/NAME" if chat else "/v1 or /chat/completions"
        if others := [name for name in (_OF_TENSORS if chat else _OF_CHAT) if getattr(arguments, name)]:
            place = f"an address that ends in {kind}"
            raise ArgumentError(f"{flag(others[0])}: expected with {place}, got {shown(address)}")
        return
    if address is not None and _HOST_AND_PORT.match(address) and not Path(address).exists():
        raise ArgumentError(f"--remote: expected a file or an address such as http://{address}, got {address}")
    idle = next((name for name in (*_OF_ADDRESSES, *_OF_CHAT) if getattr(arguments, name)), None)
    if idle is not None:
        raise ArgumentError(f"{flag(idle)}: expected with --remote and an address, got {address or 'no remote'}")
    if address is None and arguments.remote_output:
        raise ArgumentError("--remote-output: expected with --remote, got no remote")


def remote_of(arguments: Namespace) -> Remote | None:
    """Return the remote that the arguments describe, or None without `--remote`.

    Raises:
        ArgumentError: an argument is invalid, or two of them exclude each other.
        ModelFileError: the remote is a file that cannot be loaded.
        ModuleNotFoundError: the address is grpc://, and the `grpc` extra is not installed.
    """
    address = arguments.remote
    check_remote_arguments(arguments)
    if address is None or "://" not in address:
        return connect(address, threads=getattr(arguments, "threads", 1), output=arguments.remote_output)
    remote = _at(address, arguments)
    from edgecascade.runtime.remotes.circuit import CircuitBreaker
    from edgecascade.runtime.remotes.hedge import Hedged
    from edgecascade.runtime.remotes.retry import Retrying

    if arguments.hedge:
        remote = Hedged(remote)
    if not arguments.no_retry:
        remote = Retrying(remote)
    return CircuitBreaker(remote)


def chat_of(arguments: Namespace, known: AskedChat | None = None, **options: Any) -> Chat:
    """Return the generative model that the arguments describe, by itself.

    Args:
        arguments: the parsed arguments.
        known: how it was asked before, from which comes what the arguments leave open.
        options: of `Chat`, in place of those that the arguments give.

    Raises:
        ArgumentError: an argument is invalid, or two of them exclude each other.
    """
    from edgecascade.runtime.remotes.chat import Chat

    address, path = arguments.remote, arguments.remote_prompt
    known = AskedChat("label") if known is None else known  # which knows nothing
    given = {
        "model": arguments.remote_model or known.model,
        "answer": arguments.answer,
        "prompt": known.prompt if path is None else read_template(Path(path)),
        "fields": {**known.fields, **_fields(arguments.remote_fields)},
        "encoded": True,
        "headers": headers_of(arguments.header, arguments.header_file),
        "context": _secure(address, arguments),
        "proxy": arguments.proxy,
    }
    try:
        return Chat(address, **{**given, **options})
    except ArgumentError as error:
        name, _, rest = str(error).partition(": ")
        named = name in ("prompt", "fields")
        raise ArgumentError(f"--remote-{name}: {rest}" if named else str(error)) from error


def read_template(path: Path) -> Template:
    """Return a template in a file: messages in JSON, or a text, without the line feed at its end.

    Raises:
        ArgumentError: the file cannot be read, or holds neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found: Template = json.loads(text) if path.suffix == ".json" else text.removesuffix("\n")
    except OSError as error:
        raise ArgumentError(f"--remote-prompt: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ArgumentError(f"--remote-prompt: expected text or JSON in {path}, got something else: {error}") from error
    if not isinstance(found, str | list):
        raise ArgumentError(f"--remote-prompt: expected a text or a list of messages in {path}, got another value")
    return found


def _fields(text: str | None) -> dict[str, Any]:
    """Return further fields of a request."""
    try:
        found = {} if text is None else json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"--remote-fields: expected a JSON object, got text that is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentError(f"--remote-fields: expected a JSON object, got {type(found).__name__}")
    return found


def _at(address: str, arguments: Namespace) -> Remote:
    if is_chat(address):
        return chat_of(arguments)
    headers = headers_of(arguments.header, arguments.header_file)
    context = _secure(address, arguments)
    if address.startswith(("grpc://", "grpcs://")):
        from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc

        return OpenInferenceGrpc(
            address,
            headers=headers,
            input=arguments.remote_input,
            output=arguments.remote_output,
            proxy=arguments.proxy,
            root_certificate=arguments.ca,
            client_key=arguments.key or arguments.cert,
            client_certificate=arguments.cert,
        )
    from edgecascade.runtime.remotes.open_inference import OpenInference

    return OpenInference(
        address,
        headers=headers,
        input=arguments.remote_input,
        output=arguments.remote_output,
        context=context,
        proxy=arguments.proxy,
    )


def _secure(address: str, arguments: Namespace) -> ssl.SSLContext | None:
    """Return the settings of TLS for an address, or None if it has none; also for gRPC, which would say less."""
    secure = address.startswith(("https://", "grpcs://"))
    idle = next((name for name in ("ca", "cert", "key") if getattr(arguments, name)), None)
    if idle is not None and not secure:
        raise ArgumentError(f"{flag(idle)}: expected with an https:// or grpcs:// address, got {shown(address)}")
    if arguments.key and not arguments.cert:
        raise ArgumentError("--key: expected with --cert, got no certificate for the key")
    return read_context(arguments) if secure else None


def headers_of(given: Iterable[str], path: str | None, argument: str = "--header-file") -> dict[str, str]:
    """Return headers by name, from the values of `--header` and the file of `--header-file`.

    Args:
        given: headers, `Name: value`.
        path: a file of such lines, or None.
        argument: the option with the file, for error messages.

    Raises:
        ArgumentError: a header has another form, or the file cannot be read.
    """
    headers = dict(_header(text, "--header") for text in given)
    if path is not None:
        try:
            lines = Path(path).read_text(encoding="latin-1").splitlines()
        except OSError as error:
            raise ArgumentError(f"{argument}: cannot read {path}: {error.strerror}") from error
        headers |= dict(_header(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip())
    return headers


def _header(text: str, where: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text.rstrip())
    if match is None:  # the text itself may be a secret
        expected = "'Name: value' in plain characters, such as 'Authorization: Bearer TOKEN'"
        raise ArgumentError(f"{where}: expected {expected}, got a line of another form")
    return match["name"], match["value"]


def read_context(arguments: Namespace) -> ssl.SSLContext:
    """Return the TLS settings of `--ca`, `--cert` and `--key`.

    Raises:
        ArgumentError: a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=arguments.ca)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"--ca: cannot read certificates from {arguments.ca}: {_why(error)}") from error
    if arguments.cert:
        try:
            context.load_cert_chain(arguments.cert, arguments.key, password=_no_password)
        except (OSError, ValueError) as error:
            files = f"{arguments.cert} and {arguments.key}" if arguments.key else arguments.cert
            raise ArgumentError(f"--cert: cannot read a certificate and its key from {files}: {_why(error)}") from error
    return context


def _no_password() -> str:
    raise ValueError("expected a key without a password, got one with a password")


def _why(error: Any) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(getattr(error, "strerror", None) or error)
