"""The `clawq` command: its parts, and how it ends when something is wrong."""

from __future__ import annotations

import errno
import sys

import typer

from app.cli import render, stack
from app.errors import ClawqError

app = typer.Typer(
    help="clawq: tasks for agents, run in sandboxes and kept in Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Each part is a Typer app of its own; one without a name adds its commands to the top level.
app.add_typer(stack.app)


def main() -> None:
    """Entry point of the console script.

    Exits with 1 and one sentence on standard error for everything that clawq refuses, with 2 for wrong usage.
    """
    try:
        app()
    except ClawqError as exc:
        render.complain(exc.detail, [f"{'.'.join(map(str, p.loc))}: {p.msg}" for p in exc.problems])
        sys.exit(1)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        render.complain(f"{exc.strerror}: {exc.filename}." if exc.filename else f"{exc.strerror}.")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
