"""The command line's side of the HTTP API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from app.errors import ClawqError, Invalid, Problem, SettingsError
from app.local import home as homes
from app.local import record
from app.settings import settings

TERMINAL = ("succeeded", "failed", "cancelled", "skipped")
#: Seconds of silence after which a stream is taken for dead: the API says something more often.
_SILENCE_S = 45.0
_CONNECT_S = 5.0

#: The API takes no larger body. Looked at here too, for a server that refuses may hang up before it has said why.
MAX_BODY_BYTES = 16 * 1024 * 1024
TOO_LARGE = "larger than the 16 MiB that the API takes"

_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.:@-]+")
_KEY = re.compile(r"[!-~]+")


class ApiError(ClawqError):
    """The API refused, or did not answer."""


class Away(ApiError):
    """The API does not answer now; it may later."""


class Busy(Away):
    """The API answers, but does not do what it is asked for now; it may later."""


class Client:
    """Calls the API of the running stack, or the one that CLAWQ_API_URL and CLAWQ_API_KEY name."""

    def __init__(self) -> None:
        """Raises SettingsError if there is no API to call or no key."""
        home = homes.locate(settings().home)
        configured = settings().api_url
        url = configured or record.read(home).get("api_url")
        if not url:
            raise SettingsError("No stack is running here: start one with `clawq up`, or set CLAWQ_API_URL.")
        self.url = url.rstrip("/")
        key = _key(home)
        try:
            self._http = httpx.Client(
                base_url=f"{_checked(self.url)}/api/v1",
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                # The wait of a long-poll comes on top of what any request may take.
                timeout=httpx.Timeout(90, connect=_CONNECT_S),
                # A proxy of the environment knows nothing of the stack on this machine.
                trust_env=configured is not None,
            )
        except (httpx.InvalidURL, ValueError, OSError, ImportError) as exc:
            raise SettingsError(f"CLAWQ_API_URL {url} cannot be called: {_why(exc)}.") from exc

    def get(self, path: str, **params: Any) -> Any:
        """GET a resource. Raises ApiError."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def read(self, path: str) -> bytes:
        """GET the bytes of a file. Raises ApiError."""
        response = self._answer("GET", path)
        if response.headers.get("Content-Type") != "application/octet-stream":
            raise self._stranger()
        return response.content

    def post(self, path: str, body: Any = None) -> Any:
        """POST to a resource. Raises ApiError."""
        return self._call("POST", path, content=_encoded({} if body is None else body))

    def send(self, path: str, content: bytes, media_type: str) -> Any:
        """POST a body as it is. Raises ApiError."""
        return self._call("POST", path, content=content, headers={"Content-Type": media_type})

    def patch(self, path: str, body: Any) -> Any:
        """PATCH a resource. Raises ApiError."""
        return self._call("PATCH", path, content=_encoded(body))

    def delete(self, path: str) -> None:
        """DELETE a resource. Raises ApiError."""
        self._call("DELETE", path)

    def events(self, task_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The events of a task with a seq above `after` so far, in order."""
        while True:
            page = self.get(at("tasks", task_id, "events"), after=after, limit=1000)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            after = page["items"][-1]["seq"]

    @contextmanager
    def stream(self, path: str, after: str | None, **params: str) -> Iterator[Iterator[bytes] | None]:
        """GET a stream of events that come after the one of this id; yields its bytes as they come, None for no more.

        Raises ApiError; while it is read, Away.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        try:
            with self._http.stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                if response.status_code != httpx.codes.NO_CONTENT and not _is_stream(response):
                    raise self._stranger()
                yield None if response.status_code == httpx.codes.NO_CONTENT else response.iter_bytes()
        except httpx.HTTPError as exc:
            raise self._silent(exc) from exc

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        response = self._answer(method, path, **kwargs)
        return self._object(response) if response.content else None

    def _answer(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **kwargs)
        except httpx.HTTPError as exc:
            raise self._silent(exc) from exc
        except UnicodeEncodeError:
            raise Invalid(_NO_TEXT) from None
        except httpx.InvalidURL as exc:
            raise Invalid(f"This cannot be asked: {_why(exc)}.") from exc
        if not response.is_success:
            raise _refusal(response)
        return response

    def _object(self, response: httpx.Response) -> Any:
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self._stranger()
        return value

    def _silent(self, exc: httpx.HTTPError) -> Away:
        return Away(f"The API at {self.url} does not answer: {_why(exc)}.")

    def _stranger(self) -> ApiError:
        return ApiError(f"Something answers at {self.url}, but not as clawq's API does.")


_NO_TEXT = "The request is not UTF-8 text."
#: What a proxy answers where the API does not.
_NOBODY_BEHIND = (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT)


def at(kind: str, an_id: str, *rest: str) -> str:
    """The path of a thing with this id. Raises Invalid if no id looks like that."""
    if not _ID.fullmatch(an_id):
        raise Invalid(f"'{an_id}' is no id.")
    return "/".join(("", kind, quote(an_id, safe=""), *rest))


def _encoded(body: Any) -> bytes:
    try:
        encoded = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Invalid(_NO_TEXT) from None
    except (ValueError, RecursionError):
        raise Invalid("The request holds what JSON cannot: NaN, an infinite number, or too many levels.") from None
    if len(encoded) > MAX_BODY_BYTES:
        raise Invalid(f"The request is {TOO_LARGE}.")
    return encoded


def _checked(url: str) -> httpx.URL:
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host or not parsed.host.isprintable() or " " in url:
        raise ValueError("it is no http:// or https:// address")
    return parsed


def _key(home: homes.Home) -> str:
    if configured := settings().api_key:
        key, where = configured.get_secret_value(), "CLAWQ_API_KEY"
    elif home.key_file.exists():
        key, where = home.key_file.read_text(encoding="utf-8", errors="replace").strip(), str(home.key_file)
    else:
        raise SettingsError("There is no API key: set CLAWQ_API_KEY.")
    if not _KEY.fullmatch(key):
        raise SettingsError(f"{where} holds no API key: one is letters, digits, - and _ only.")
    return key


def _why(exc: Exception) -> str:
    return str(exc).rstrip(".") or type(exc).__name__


def _is_stream(response: httpx.Response) -> bool:
    return str(response.headers.get("Content-Type", "")).startswith("text/event-stream")


def _refusal(response: httpx.Response) -> ApiError:
    kind: type[ApiError] = ApiError
    if response.status_code in _NOBODY_BEHIND:
        kind = Away
    elif response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        kind = Busy
    try:
        problem = response.json()
        problems = [Problem(tuple(e["loc"]), e["msg"]) for e in problem.get("errors") or []]
        refusal = kind(problem.get("detail") or problem["title"], problems=problems)
    except (ValueError, KeyError, TypeError, AttributeError):
        refusal = kind(f"The API answered {response.status_code}.")
    refusal.http_status = response.status_code
    return refusal
