"""The protocol of `/embeddings` over HTTP: asking within a bounded time, and checking what is answered."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from app.embeddings.base import EmbedderAway, EmbedderRefuses
from app.errors import ClawqError

if TYPE_CHECKING:
    from app.embeddings.base import Vectors

#: Seconds that one request may take, tries and pauses together: someone may be waiting for a search.
TOTAL_S = 8.0
_CONNECT_S = 2.0
_READ_S = 5.0
#: Seconds before the second, third and fourth try, where the service does not say.
_PAUSES_S = (0.25, 0.5, 1.0)
#: Far more than 128 vectors of 1536 numbers take.
_MOST_BYTES = 32 * 1024 * 1024
#: What a service calls its errors. Its sentences stay unread: they may quote the text or the key.
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OF_THE_TEXT = (400, 413, 422)
#: By status, the settings that are likely wrong.
_SETTINGS = {
    401: "CLAWQ_EMBEDDING_API_KEY",
    403: "CLAWQ_EMBEDDING_API_KEY",
    404: "CLAWQ_EMBEDDING_MODEL and CLAWQ_EMBEDDING_BASE_URL",
}


class Refused(ClawqError):
    """The service does not accept what it is asked; the texts may be why."""


class _Busy(ClawqError):
    """The service may answer if it is asked again."""

    def __init__(self, detail: str, pause_s: float | None = None) -> None:
        super().__init__(detail)
        self.pause_s = pause_s


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class Wire:
    """A service at a URL. Neither that nor its key is ever in an error."""

    def __init__(self, base_url: str, key: SecretStr | None) -> None:
        url = httpx.URL(base_url)
        # Some have a query, as in `?api-version=…`.
        self._url = url.copy_with(path=url.path.rstrip("/") + "/embeddings")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else None,
            trust_env=not _is_loopback(url.host),
        )

    def post(self, body: dict[str, Any]) -> Any:
        """What the service answers, parsed. Asks again while it is busy or broken and time is left.

        Raises:
            EmbedderAway: it does not answer in time, or not in JSON.
            EmbedderRefuses: it does not accept the key or the settings.
            Refused: it does not accept the request.
        """
        until = monotonic() + TOTAL_S
        for pause_s in (*_PAUSES_S, None):
            try:
                return _parsed(self._once(body, until))
            except _Busy as busy:
                wait_s = pause_s if busy.pause_s is None else busy.pause_s
                if pause_s is None or wait_s is None or monotonic() + wait_s >= until:
                    raise EmbedderAway(f"{busy.detail} Nobody waits longer for it.") from None
            sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _once(self, body: dict[str, Any], until: float) -> _Answer:
        left_s = max(until - monotonic(), 0.1)
        timeout = httpx.Timeout(min(_READ_S, left_s), connect=min(_CONNECT_S, left_s))
        try:
            with self._http.stream("POST", self._url, json=body, timeout=timeout) as response:
                return _Answer(response.status_code, response.headers, _read(response, until))
        except httpx.TimeoutException:
            raise EmbedderAway("The embedding service does not answer in time.") from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError):
            raise EmbedderAway("The embedding service cannot be reached.") from None
        except (httpx.HTTPError, httpx.StreamError):
            # As when it has closed a connection that was kept.
            raise _Busy("The embedding service breaks the connection off.") from None


def vectors_of(answer: Any, count: int, dimensions: int) -> Vectors:
    """The vectors in an answer, in the order of the texts.

    Raises:
        EmbedderAway: they are not as many as the texts, or no numbers.
        EmbedderRefuses: they are not as long as the settings say.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise EmbedderAway("The embedding service answers no list of vectors.")
    if len(data) != count:
        raise EmbedderAway(f"The embedding service answers {len(data)} vectors to {count} texts.")
    rows: list[Any] = [None] * count
    for place, item in enumerate(data):
        index = item.get("index", place)
        if type(index) is not int or not 0 <= index < count or rows[index] is not None:
            raise EmbedderAway("The embedding service does not say which vector belongs to which text.")
        rows[index] = item.get("embedding")
    return _numbers(rows, dimensions)


def _numbers(rows: list[Any], dimensions: int) -> Vectors:
    import numpy as np

    for row in rows:
        if not isinstance(row, list) or not all(type(number) in (float, int) for number in row):
            raise EmbedderAway("The embedding service answers something that is no vector of numbers.")
        if len(row) != dimensions:
            raise EmbedderRefuses(
                f"The embedding service answers vectors of {len(row)} numbers, not {dimensions}: set "
                "CLAWQ_EMBEDDING_DIMENSIONS to what the model makes, or see CLAWQ_EMBEDDING_SEND_DIMENSIONS."
            )
    try:
        with np.errstate(over="ignore"):
            vectors = np.array(rows, dtype=np.float32)
    except OverflowError:
        vectors = np.array([[np.nan]], dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise EmbedderAway("The embedding service answers numbers that are not finite.")
    return vectors


def _read(response: httpx.Response, until: float) -> bytes:
    """The body. A service that sends a little now and then does not hold up anyone for longer than others do."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise EmbedderAway(f"The embedding service answers more than {_MOST_BYTES} bytes.")
        if monotonic() > until:
            raise EmbedderAway("The embedding service does not answer in time.")
    return bytes(body)


def _parsed(answer: _Answer) -> Any:
    """The JSON of an answer that is one."""
    status = answer.status
    if status == 200:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise EmbedderAway("The embedding service answers something that is no JSON.") from None
    said = f"The embedding service answers {status}{_code(answer.body)}."
    if status in (408, 429) or status >= 500:
        raise _Busy(said, _retry_after(answer.headers))
    if status in _OF_THE_TEXT:
        raise Refused(said)
    raise EmbedderRefuses(f"{said} See {_SETTINGS.get(status, 'CLAWQ_EMBEDDING_BASE_URL')}.")


def _code(body: bytes) -> str:
    """What the service calls its error, in parentheses."""
    try:
        error = json.loads(body)["error"]
        names = [error.get(name) for name in ("code", "type")]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return ""
    named = [name for name in names if isinstance(name, str) and _CODE.fullmatch(name)]
    return f" ({named[0]})" if named else ""


def _retry_after(headers: httpx.Headers) -> float | None:
    """The seconds to wait that a service names, as a number or as a date."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
