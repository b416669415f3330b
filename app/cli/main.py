"""The `clawq` command: its parts, and how it ends when something is wrong."""

from __future__ import annotations

import errno
import sys

import typer

from app.cli import (
    agents,
    artifacts,
    demo,
    groupchats,
    keys,
    memory,
    messages,
    render,
    sessions,
    stack,
    watch,
    work,
    workflow,
)
from app.errors import ClawqError, SettingsError

app = typer.Typer(
    help="clawq: tasks for agents, run in sandboxes and kept in Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Each part is a Typer app of its own; one without a name adds its commands to the top level.
app.add_typer(stack.app)
app.add_typer(demo.app)
app.add_typer(work.app)
app.add_typer(watch.app)
app.add_typer(artifacts.app)
app.add_typer(workflow.app, name="workflow")
app.add_typer(memory.app, name="memory")
app.add_typer(agents.app, name="agents")
app.add_typer(sessions.app, name="sessions")
app.add_typer(groupchats.app, name="groupchats")
app.add_typer(messages.app, name="messages")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Entry point of the console script.

    Exits with 1 and one sentence on standard error for everything that clawq refuses, with 2 for wrong usage.
    """
    render.prepare_streams()
    try:
        app()
    except ClawqError as exc:
        # The sentence of wrong settings names them all.
        problems = () if isinstance(exc, SettingsError) else exc.problems
        render.complain(exc.detail, [f"{'.'.join(map(str, p.loc))}: {p.msg}" for p in problems])
        sys.exit(1)
    except OSError as exc:
        if exc.filename is None and exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        render.complain(f"{exc.strerror}: {exc.filename}." if exc.filename else f"{exc.strerror}.")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
