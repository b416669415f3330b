"""Prepared statements: what every task goes through is parsed and planned once a connection, not once a time.

For these statements planning takes longer than running does, unless they carry hundreds of tasks. They are executed as
any other, `db.execute(statement, params)`. SQL's own PREPARE does it, since psycopg2 knows no other way; so connections
must reach Postgres directly or through a pooler in session mode.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sqlalchemy import Engine, TextClause, event, text

_PARAMETER = re.compile(r"%\((\w+)\)s")
_DONE = "clawq.prepared"


def prepared(name: str, statement: str, *, before: str = "") -> TextClause:
    """A statement that each connection prepares at its first use.

    Args:
        name: unique.
        statement: with `:name` parameters, whose types must follow from where they stand. The columns of its result
            must be named: once `*` means others than it did, Postgres refuses to go on with a plan.
        before: statements without parameters or results that are sent along in front of it each time.
    """
    return text(statement).execution_options(prepared=name, before=before)


def enable(engine: Engine) -> None:
    """Let connections of `engine` prepare the statements that are marked so."""
    event.listen(engine, "before_cursor_execute", _rewrite, retval=True)


def _rewrite(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, _: bool) -> tuple[str, Any]:
    name = context.execution_options.get("prepared") if context else None
    if name is None:
        return statement, parameters
    prepare, execute = _forms(name, statement)
    done: set[str] = connection.info.setdefault(_DONE, set())
    if name not in done:
        # It outlives a rollback of the transaction that it is in.
        cursor.execute(prepare)
        done.add(name)
    return f"{context.execution_options['before']} {execute}", parameters


@cache
def _forms(name: str, statement: str) -> tuple[str, str]:
    """The statement as PREPARE and as EXECUTE; parameters are numbered as they first appear."""
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    body = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement).replace("%%", "%")
    arguments = ", ".join(f"%({parameter})s" for parameter in names)
    return (
        f"PREPARE clawq_{name} AS {body}",
        f"EXECUTE clawq_{name} ({arguments})" if names else f"EXECUTE clawq_{name}",
    )
