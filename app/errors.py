"""Everything clawq refuses, as one tree. A class carries its code and HTTP status; the docstring is the default text.

ClawqError
├── SettingsError           the configuration is not usable
├── Invalid                 422  the request is well-formed but not acceptable
├── Unauthorized            401
├── Forbidden               403
├── NotFound                404
├── Unavailable             503  not now; later the same may do
└── Conflict                409  the thing is in a state that does not allow it
    ├── IdempotencyInFlight 409
    └── IdempotencyMismatch 422
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input.

    Attributes:
        loc: path to the value, for example `("payload", "limits", "wall_s")`.
        msg: what is wrong and what is allowed.
    """

    loc: tuple[str | int, ...]
    msg: str


class ClawqError(Exception):
    """Something clawq could not do."""

    code = "error"
    http_status = 500

    def __init__(self, detail: str | None = None, *, problems: Sequence[Problem] = ()) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.problems = tuple(problems)
        super().__init__(self.detail)


class SettingsError(ClawqError):
    """The configuration is not usable."""

    code = "settings"


class Invalid(ClawqError):
    """The request is not acceptable."""

    code = "invalid"
    http_status = 422


class Unauthorized(ClawqError):
    """This needs an API key: `Authorization: Bearer clawq_<id>_<secret>`."""

    code = "unauthorized"
    http_status = 401


class Forbidden(ClawqError):
    """The API key's scopes do not allow this."""

    code = "forbidden"
    http_status = 403


class NotFound(ClawqError):
    """There is no such thing, or it belongs to someone else."""

    code = "not_found"
    http_status = 404


class Unavailable(ClawqError):
    """What this needs does not answer, or has no room, at the moment."""

    code = "unavailable"
    http_status = 503


class Conflict(ClawqError):
    """The state of this thing does not allow that."""

    code = "conflict"
    http_status = 409


class IdempotencyInFlight(Conflict):
    """A request with this Idempotency-Key is still being handled."""

    code = "idempotency_in_flight"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_mismatch"
    http_status = 422
