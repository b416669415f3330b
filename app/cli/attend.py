"""Being there while a task runs: its output as it comes, and how it ended."""

from __future__ import annotations

import sys
from typing import Any

from rich.text import Text

from app.cli import render, stream
from app.cli.client import TERMINAL, ApiError, Client, at

Json = dict[str, Any]


def attend(client: Client, task_id: str, *, quiet: bool) -> Json:
    """Show a task until it has ended; returns it then. Says how to see it again if that is broken off.

    Args:
        quiet: show nothing.
    """
    try:
        with render.status("accepted") as status:
            for event in stream.follow(client, task_id=task_id):
                if not quiet and event["kind"] == "log":
                    print_output(event)
                elif event["kind"] == "progress":
                    status(f"{event['data']['progress']}% {event['data'].get('note', '')}")
                elif event["kind"] not in TERMINAL:
                    status(event["kind"])
        task: Json = stream.patiently(lambda: client.get(at("tasks", task_id)))
    except (ApiError, KeyboardInterrupt):
        render.err.print(
            f"The task goes on.\n  clawq logs -f {task_id}   follow it\n  clawq cancel {task_id}    end it"
        )
        raise
    return task


def print_output(event: Json) -> None:
    """Print a piece of a program's output where it belongs."""
    out = sys.stderr if event["data"]["stream"] == "stderr" else sys.stdout
    out.write(event["data"]["text"])
    out.flush()


def print_end(task: Json) -> None:
    """Say how a task ended."""
    usage = (task["result"] or {}).get("usage") or {}
    ran = f" in {usage['wall_ms']} ms" if usage.get("wall_ms") is not None else ""
    where = f" ({task['result']['sandbox']} sandbox)" if (task["result"] or {}).get("sandbox") else ""
    render.err.print(render.state(task["status"]), Text(f"{ran}{where} {task['error'] or ''}"), sep="")
