"""The command line's side of the HTTP API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from app.errors import ClawqError, Problem, SettingsError
from app.local import home as homes
from app.local import record
from app.settings import settings

TERMINAL = ("succeeded", "failed", "cancelled", "skipped")
#: Seconds of one long-poll while following a task: how often its news are looked at.
_POLL_S = 0.3


class ApiError(ClawqError):
    """The API refused, or did not answer."""


class Client:
    """Calls the API of the running stack, or the one that CLAWQ_API_URL and CLAWQ_API_KEY name."""

    def __init__(self) -> None:
        """Raises SettingsError if there is no API to call or no key."""
        home = homes.locate(settings().home)
        url = settings().api_url or record.read(home).get("api_url")
        if not url:
            raise SettingsError("No stack is running here: start one with `clawq up`, or set CLAWQ_API_URL.")
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {_key(home)}"},
            # The wait of a long-poll comes on top of what any request may take.
            timeout=httpx.Timeout(90, connect=5),
        )

    def get(self, path: str, **params: Any) -> Any:
        """GET a resource. Raises ApiError."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """POST to a resource. Raises ApiError."""
        return self._call("POST", path, json=body if body is not None else {})

    def delete(self, path: str) -> None:
        """DELETE a resource. Raises ApiError."""
        self._call("DELETE", path)

    def events(self, task_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The events of a task with a seq above `after` so far, in order."""
        while True:
            page = self.get(f"/tasks/{task_id}/events", after=after, limit=1000)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            after = page["items"][-1]["seq"]

    def follow(self, task_id: str) -> Iterator[dict[str, Any]]:
        """The events of a task from the first to its end, as they come."""
        seen = 0
        while True:
            ended = self.get(f"/tasks/{task_id}")["status"] in TERMINAL
            for event in self.events(task_id, seen):
                seen = event["seq"]
                yield event
            if ended:
                return
            time.sleep(_POLL_S)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        try:
            response = self._http.request(method, path, **kwargs)
        except httpx.HTTPError as exc:
            raise ApiError(f"The API at {self.url} does not answer: {exc or type(exc).__name__}.") from exc
        if response.is_success:
            return response.json() if response.content else None
        raise _refusal(response)


def _key(home: homes.Home) -> str:
    if configured := settings().api_key:
        return configured.get_secret_value()
    if not home.key_file.exists():
        raise SettingsError("There is no API key: set CLAWQ_API_KEY.")
    return home.key_file.read_text().strip()


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
        problems = [Problem(tuple(e["loc"]), e["msg"]) for e in problem.get("errors") or []]
        return ApiError(problem.get("detail") or problem["title"], problems=problems)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(f"The API answered {response.status_code}.")
