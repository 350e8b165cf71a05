"""Log records describe events with their reasons, at a bounded rate, and never contain inputs or replies."""

import io
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Cascade, OpenInference, RemoteError, RemoteRefusal
from edgecascade.runtime.counts import Counts, Histogram
from edgecascade.runtime.metrics.event_log import EventLog, JsonFormatter
from edgecascade.runtime.metrics.prometheus import prometheus_text
from edgecascade.types.answer import Reason
from snapshots import metrics

SECRET = "Bearer s3cr3t-t0k3n"
Received = list[tuple[str, Mapping[str, str], bytes]]
PAYLOAD = 31415.9265  # an input that a remote might echo


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Collect all records of edgecascade, at any level."""
    found: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Keeping()
    logger = logging.getLogger("edgecascade")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(before)
    logger.removeHandler(handler)


def test_a_record_has_fields_and_a_sentence(records: list[logging.LogRecord]) -> None:
    """The fields are the event, its reason, and the class of the exception."""
    EventLog().event("forward failed", reason=Reason.REMOTE_ERROR, error=RemoteError("no"))
    (record,) = records
    assert (record.name, record.levelno) == ("edgecascade", logging.WARNING)
    assert record.getMessage() == "forward failed: remote error, RemoteError"
    fields = {name: getattr(record, name) for name in ("event", "reason", "error", "suppressed")}
    assert fields == {
        "event": "forward failed",
        "reason": "remote error",
        "error": "RemoteError",
        "suppressed": 0,
    }


def test_a_refusal_is_logged_with_its_status_and_without_its_words(
    records: list[logging.LogRecord], file: Path
) -> None:
    """So a log tells a missing token from a missing model."""

    def refuses(_: Any) -> Any:
        raise RemoteRefusal("remote: HTTP 401: no such token as abc", status="401")

    with Cascade.load(file, remote=refuses) as cascade:
        assert "401" in cascade.predict(np.zeros(3, np.float32)).detail
    messages = [record.getMessage() for record in records]
    assert "forward failed: remote error, RemoteRefusal 401" in messages
    assert "abc" not in "".join(messages)


def test_each_event_is_logged_once_per_interval_and_the_others_counted(records: list[logging.LogRecord]) -> None:
    """The next record has the number of suppressed ones."""
    clock = Clock()
    log = EventLog(clock=clock)
    for clock.now in (0.0, 1.0, 9.9, 10.0, 10.5, 30.0, 40.0):
        log.event("forward failed")
        if clock.now == 1.0:
            log.event("egress failed")
    seen = [(record.event, record.suppressed) for record in records]  # type: ignore[attr-defined]
    assert seen == [
        ("forward failed", 0),
        ("egress failed", 0),
        ("forward failed", 2),
        ("forward failed", 1),
        ("forward failed", 0),
    ]
    assert records[2].getMessage() == "forward failed (2 more since the last such record)"


def test_events_below_the_level_are_not_counted(records: list[logging.LogRecord]) -> None:
    """They do not start an interval either."""
    log = EventLog(clock=Clock())
    logging.getLogger("edgecascade").setLevel(logging.ERROR)
    log.event("forward failed")
    logging.getLogger("edgecascade").setLevel(logging.INFO)
    log.event("forward failed")
    assert [record.levelno for record in records] == [logging.WARNING]


def test_a_failing_handler_costs_no_answer() -> None:
    """An exception in the application's logging is not raised to the caller."""

    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
            raise OSError("disk full")

    handler = Failing()
    logging.getLogger("edgecascade").addHandler(handler)
    try:
        EventLog().event("forward failed")
    finally:
        logging.getLogger("edgecascade").removeHandler(handler)


def test_without_configuration_nothing_is_written() -> None:
    """A library does not write to stderr."""
    code = "from edgecascade.runtime.metrics.event_log import EventLog\nEventLog().event('forward failed')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout + ran.stderr == ""


def formatted(log: Callable[[logging.Logger], None]) -> list[dict[str, Any]]:
    """Return the parsed lines that a stream handler writes with the formatter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("edgecascade")
    logger.addHandler(handler)
    try:
        log(logger)
    finally:
        logger.removeHandler(handler)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_have_the_fields_of_an_event() -> None:
    """Each line is one object with the time in UTC; missing fields are omitted."""

    def log(_: logging.Logger) -> None:
        events = EventLog()
        events.event("outbox full")
        events.event("forward failed", reason=Reason.DEADLINE)

    first, second = formatted(log)
    assert first.pop("time").endswith("+00:00")
    assert second.pop("time")
    common = {"level": "WARNING", "logger": "edgecascade", "suppressed": 0}
    assert first == {
        **common,
        "message": "outbox full",
        "event": "outbox full",
    }
    assert second == {
        **common,
        "message": "forward failed: deadline",
        "event": "forward failed",
        "reason": "deadline",
    }


def test_json_lines_include_records_of_other_loggers() -> None:
    """Each is on one line, with the class of an exception and without its text."""

    def log(logger: logging.Logger) -> None:
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("two\nlines: %s", "x")

    (line,) = formatted(log)
    assert (line["message"], line["error"], line["level"]) == ("two\nlines: x", "ValueError", "ERROR")
    assert SECRET not in str(line)


def everything(record: logging.LogRecord) -> str:
    """Return everything that a handler or formatter could write of a record."""
    return "\n".join([str(vars(record)), logging.Formatter().format(record), JsonFormatter().format(record)])


def test_an_echo_of_a_hostile_remote_is_in_no_record_and_no_metric(
    make_file: Callable[..., Path],
    serve: Callable[..., Any],
    recording: tuple[Callable[[bytes], Any], Received],
    respond: Callable[..., bytes],
    records: list[logging.LogRecord],
) -> None:
    """It returns the input and the token in body, header and status line."""
    echo = f"{SECRET} {PAYLOAD}"
    record, received = recording
    behave = record(respond(echo.encode(), f"500 {echo}", X_Echo=echo, Retry_After=echo))
    remote = OpenInference(serve(behave).address, headers={"Authorization": SECRET})
    local, forwarded, answers = Histogram(), Histogram(), Counter[Any]()
    with Cascade.load(make_file(), remote=remote, deadline=20.0) as cascade:
        for _ in range(3):
            answer = cascade.predict(np.array([0.0, 0.0, 0.0], np.float32), original=np.full(3, PAYLOAD, np.float32))
            assert answer.reason is Reason.REMOTE_ERROR
            forwarded.observe(answer.elapsed)
            answers[answer.source, answer.reason] += 1
            EventLog().event("forward failed", reason=answer.reason, error=RemoteError(answer.detail))
        found = metrics(Counts(answers, local.snapshot(), forwarded.snapshot()), traffic=remote.traffic)
    assert any(headers.get("authorization") == SECRET for _, headers, _ in received)  # the remote received it
    assert len(records) >= 3
    shown = "\n".join([*map(everything, records), json.dumps(found), prometheus_text(found)])
    assert "remote error" in shown
    for secret in ("s3cr3t", "31415", "Authorization", "Bearer"):
        assert secret not in shown


def test_an_error_of_a_hostile_function_is_in_no_record(
    make_file: Callable[..., Path], records: list[logging.LogRecord]
) -> None:
    """Neither its arguments nor its cause are logged."""

    def infer(inputs: Any) -> Any:
        raise RuntimeError(SECRET, inputs) from ValueError(SECRET)

    with Cascade.load(make_file(), remote=infer, deadline=20.0) as cascade:
        answer = cascade.predict(np.full(3, 31415.0, np.float32))
        error = RuntimeError(answer.detail)
        error.__cause__ = ValueError(SECRET)
        EventLog().event("forward failed", reason=answer.reason, error=error)
    assert answer.reason is Reason.REMOTE_ERROR
    assert records
    shown = "\n".join(map(everything, records))
    assert "RuntimeError" in shown
    assert "s3cr3t" not in shown
    assert "31415" not in shown
