"""Log formats: ECS JSON for machines, a line that the deployment design's grok pattern parses, no secrets in either."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog

from app import logs
from app.settings import settings

#: grok's TIMESTAMP_ISO8601 and LOGLEVEL, as far as they concern us, and GREEDYDATA.
GROK = re.compile(
    r"(?P<timestamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)) "
    r"(?P<level>DEBUG|INFO|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL) (?P<log_message>.*)"
)
log = logging.getLogger("clawq.test")


@pytest.fixture
def written(environment: pytest.MonkeyPatch, tmp_path) -> Iterator[io.StringIO]:
    """What has been logged since `configure`."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    environment.chdir(tmp_path)
    environment.setenv("LOG_LEVEL", "DEBUG")
    yield stream
    root.handlers[:], root.level = before
    structlog.contextvars.clear_contextvars()


def use(environment: pytest.MonkeyPatch, style: str, written: io.StringIO) -> None:
    environment.setattr(sys, "stderr", written)
    environment.setenv("CLAWQ_LOG_FORMAT", style)
    settings.cache_clear()
    logs.configure()


def fail_with_a_secret() -> None:
    password = "hunter" + "2"  # noqa: F841  a local that a traceback must not print
    raise RuntimeError("it broke\nin two lines")


def log_everything() -> None:
    log.info("task %s\nof two lines", 7, extra={"task_id": "t1", "attempt": 2, "agent_id": "a"})
    try:
        fail_with_a_secret()
    except RuntimeError:
        log.exception("failed", extra={"task_id": "t2"})
    structlog.contextvars.bind_contextvars(request_id="r1")
    log.warning("odd values: %s", {"a": 1}, extra={"value": {1, 2}, "path": "é\u2028"})


@pytest.mark.parametrize("style", ["ecs", "auto"])
def test_ecs_records_are_one_line_of_json_each_with_their_ids(environment, written: io.StringIO, style: str) -> None:
    use(environment, style, written)
    log_everything()
    first, second, third = (json.loads(line) for line in written.getvalue().splitlines() if line)
    assert first["message"] == "task 7\nof two lines"
    assert (first["task_id"], first["attempt"], first["agent_id"]) == ("t1", 2, "a")
    assert (first["log.level"], first["log"]["logger"]) == ("info", "clawq.test")
    assert first["@timestamp"].endswith("Z")
    assert first["ecs.version"]
    assert second["task_id"] == "t2"
    assert "RuntimeError: it broke" in second["error"]["stack_trace"]
    assert (third["request_id"], third["log.level"]) == ("r1", "warning")


def test_text_records_are_one_line_each_that_grok_parses(environment, written: io.StringIO) -> None:
    use(environment, "text", written)
    log_everything()
    lines = written.getvalue().split("\n")
    assert lines.pop() == ""
    matches = [GROK.fullmatch(line) for line in lines]
    assert all(matches), lines
    assert [m["level"] for m in matches if m] == ["INFO", "ERROR", "WARNING"]
    assert "task_id='t1'" in lines[0]
    assert "RuntimeError: it broke" in lines[1]
    assert "request_id='r1'" in lines[2]


@pytest.mark.parametrize("style", ["ecs", "text", "console"])
def test_no_local_variable_is_ever_logged(environment, written: io.StringIO, style: str) -> None:
    use(environment, style, written)
    log_everything()
    assert "RuntimeError" in written.getvalue()
    assert "hunter2" not in written.getvalue()


def test_the_level_that_is_set_holds(environment, written: io.StringIO) -> None:
    environment.setenv("LOG_LEVEL", "WARNING")
    use(environment, "text", written)
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in written.getvalue()
    assert "loud" in written.getvalue()


def test_configuring_twice_does_not_log_twice(environment, written: io.StringIO) -> None:
    use(environment, "text", written)
    logs.configure()
    log.info("once")
    assert written.getvalue().count("once") == 1
