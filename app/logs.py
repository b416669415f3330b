"""Structured logs: ECS JSON for machines, one coloured line on a terminal, one grok-able line on request.

`logging.getLogger(__name__)` everywhere; ids go in `extra={"task_id": …}` or `structlog.contextvars`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import ecs_logging
import structlog

from app.settings import Settings, settings

_STAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)
_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
]


def configure() -> None:
    """Send every log record of this process to standard error in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings().log_level)
    # httpx logs every URL, the last two every envelope, arguments and all; workers log their tasks themselves.
    for chatty in ("kombu", "urllib3", "httpx", "docker", "alembic", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _formatter(config: Settings) -> logging.Formatter:
    style = config.log_format
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "ecs"
    if style == "text":
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[_drop_meta, structlog.processors.format_exc_info, _STAMP, _grok_line],
        )
    if style == "console":
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _STAMP], processors=[_drop_meta, _console()]
        )
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[_drop_meta, _ecs_fields, _to_ecs])


def _drop_meta(logger: logging.Logger, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)


_to_ecs: Any = ecs_logging.StructlogFormatter()


def _console() -> structlog.dev.ConsoleRenderer:
    # The pretty traceback prints local variables, and those may hold secrets.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _ecs_fields(logger: logging.Logger, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event = structlog.processors.format_exc_info(logger, name, event)
    event["log.level"] = event.pop("level")
    event["log.logger"] = event.pop("logger")
    if trace := event.pop("exception", None):
        event["error"] = {"stack_trace": trace}
    return event


def _grok_line(_logger: logging.Logger, _name: str, event: structlog.typing.EventDict) -> str:
    """`%{TIMESTAMP_ISO8601} %{LOGLEVEL} %{GREEDYDATA}`, the deployment design's pattern; one record, one line."""
    stamp, level, message = event.pop("timestamp"), event.pop("level").upper(), event.pop("event")
    rest = " ".join(f"{key}={value!r}" for key, value in event.items())
    return f"{stamp} {level} {message} {rest}".rstrip().replace("\n", "\\n")
