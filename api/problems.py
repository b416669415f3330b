"""Failures as problem+json (RFC 9457): every one of them, with what is wrong where, and nothing of our insides."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flask import Flask, Response, g
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from app.errors import ClawqError, IdempotencyInFlight, Invalid, Problem, Unauthorized

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: More would help nobody, and a batch can be wrong in a thousand places.
_MOST_ERRORS = 100
_LONGEST_PART = 100
#: Seconds a client should wait before it asks again while Postgres is away or busy.
_RETRY_AFTER_S = 2

#: What Postgres says of a statement it gave up or broke off: it answers, and took the transaction back.
_BUSY = {
    "57014": "did not finish in time",
    "55P03": "waited too long for a lock",
    "40P01": "was in the way of another",
    "40001": "was in the way of another",
}
#: How it shows that Postgres is away or busy.
AWAY = (OperationalError, InterfaceError, PoolTimeout)
_CODES = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
}
_DETAILS = {
    404: "No such path; /docs lists those there are.",
    405: "This path does not answer that method; Allow lists those it does.",
    413: "The body is larger than 16 MiB, or 2 MiB of YAML.",
}
_TITLES = {
    "busy": "Postgres is too busy for this at the moment",
    "conflict": "The state of this thing does not allow that",
    "forbidden": "The API key's scopes do not allow this",
    "idempotency_in_flight": "A request with this Idempotency-Key is still being handled",
    "idempotency_mismatch": "This Idempotency-Key was used with another body",
    "internal": "Something went wrong on our side",
    "invalid": "The request is not acceptable",
    "malformed": "The request cannot be read",
    "method_not_allowed": "This path does not answer that method",
    "not_found": "There is no such thing, or it belongs to someone else",
    "timeout": "The request did not arrive in time",
    "too_large": "The request is too large",
    "unauthorized": "This needs a valid API key",
    "unavailable": "What this needs does not answer at the moment",
    "unsupported_media_type": "The body is not of a media type that is taken here",
}


class ProblemError(BaseModel):
    """One thing that is wrong with the request."""

    loc: list[str | int] = Field(description='Path to the value, for example `["payload","limits","wall_s"]`.')
    msg: str = Field(description="What is wrong and what is allowed.")


class ProblemOut(BaseModel):
    """A failure, as RFC 9457 wants it, with a code for programs and a list of what is wrong where."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="URI reference of the kind of problem: its entry on the documentation page.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time.")
    code: str = Field(description=f"The kind of problem, for programs: {', '.join(sorted(_TITLES))}.")
    errors: list[ProblemError]


def problem(
    http_status: int, code: str, detail: str, errors: Sequence[Problem] = (), headers: dict[str, str] | None = None
) -> Response:
    """A problem+json response."""
    body = ProblemOut(
        type=f"/docs#problem-{code}",
        title=_TITLES.get(code, code.replace("_", " ").capitalize()),
        status=http_status,
        detail=detail,
        code=code,
        errors=[ProblemError(loc=[_short(part) for part in p.loc], msg=p.msg) for p in errors[:_MOST_ERRORS]],
    )
    g.problem_code = code
    return Response(body.model_dump_json(), http_status, headers, content_type=MEDIA_TYPE)


def invalid(exc: ValidationError) -> Invalid:
    """Pydantic's findings as ours; the offending input is not repeated."""
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    return Invalid("The request is not acceptable.", problems=[Problem(tuple(e["loc"]), e["msg"]) for e in errors])


def titles() -> dict[str, str]:
    """Every code and what it means, for the documentation."""
    return dict(sorted(_TITLES.items()))


def register(app: Flask) -> None:
    """Answer every failure of `app` with a problem."""
    app.register_error_handler(ClawqError, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(IntegrityError, _raced)
    for cause in AWAY:
        app.register_error_handler(cause, _away)
    app.register_error_handler(Exception, _unexpected)


def _short(part: str | int) -> str | int:
    # Names of unknown fields are the client's own text, of any length.
    return part[:_LONGEST_PART] if isinstance(part, str) else part


def _refused(exc: ClawqError) -> Response:
    if exc.http_status == 503:
        log.error("%s", exc.detail)
        return problem(503, exc.code, exc.detail, (), {"Retry-After": str(_RETRY_AFTER_S)})
    if exc.http_status >= 500:
        return _unexpected(exc)
    headers = {}
    if isinstance(exc, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="clawq"'
    if isinstance(exc, IdempotencyInFlight):
        headers["Retry-After"] = "1"
    return problem(exc.http_status, exc.code, exc.detail, exc.problems, headers)


def _http(exc: HTTPException) -> Response:
    status = exc.code or 500
    detail = _DETAILS.get(status, exc.description or exc.name)
    kept = {name: value for name, value in exc.get_headers() if name in ("Allow", "Retry-After")}
    return problem(status, _CODES.get(status, exc.name.lower().replace(" ", "_")), detail, (), kept)


def _raced(exc: IntegrityError) -> Response:
    # Verbs check first; a constraint only strikes when another request came in between.
    log.warning("a constraint refused the request", exc_info=exc)
    return problem(409, "conflict", "Something that this refers to has just changed or gone; look and try again.")


def away(exc: Exception) -> tuple[str, str]:
    """What is said when Postgres did not do what was asked of it: code and detail. It is logged, too."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if why := _BUSY.get(getattr(cause, "pgcode", None) or ""):
        log.error("Postgres gave a statement up: %s", str(cause).strip())
        return "busy", f"A statement {why}, so nothing was changed. Try again later."
    log.error("Postgres does not answer: %s", str(cause).strip())
    # Not "nothing was changed": a connection that breaks during a commit leaves that open.
    return (
        "unavailable",
        "The database does not answer. Try again, with an Idempotency-Key where it must not happen twice.",
    )


def _away(exc: Exception) -> Response:
    code, detail = away(exc)
    return problem(503, code, detail, (), {"Retry-After": str(_RETRY_AFTER_S)})


def _unexpected(exc: Exception) -> Response:
    log.error("unexpected: %s", type(exc).__name__, exc_info=exc)
    return problem(
        500, "internal", f"Something went wrong on our side. Its id is {g.get('request_id')}; please say it."
    )
