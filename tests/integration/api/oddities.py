"""Requests with something odd about them: in a value, a name, a header, a media type, or the bytes of the body."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.integration.api.asks import Ask, Place
from tests.integration.api.conftest import Caller

_DEEP: Any = 0
for _ in range(150):
    _DEEP = [_DEEP]
TEXTS = (
    "", " ", "\0", "\ud800", "\udfff", "é", "\U0001f375", "%", "%00", "..", "/", "a/b", "\\", "'", '"', "x" * 256,
    "x" * 10_001, "\n", "\r\n", "0", "-1", "null", "true", "1e400", "2030-02-30T00:00:00Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", "2030-01-01T00:00:00Z", "WyIyMDMwLTAxLTAxIiwgIlx1MDAwMCJd",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, -1, 0.5, 1e308, 2**31, 2**63, -(2**63) - 1, 10**400, [], {}, [None], {"": None}, {"\0": "\0"},
    {"$ref": "x"}, {"$literal": 1}, {"base64": "="}, _DEEP, ["x"] * 1001, float("nan"), float("inf"),
)  # fmt: skip
_MEDIA_TYPES = (
    "", "text/plain", "application/yaml", "application/x-yaml", "application/json; charset=latin-1", "a/json;", "é/é",
    "multipart/form-data", "application/x-www-form-urlencoded", "application/merge-patch+json", "x" * 300,
)  # fmt: skip
_HEADERS = (
    ("Idempotency-Key", ""), ("Idempotency-Key", "é"), ("Idempotency-Key", "x" * 256), ("Idempotency-Key", "a"),
    ("Content-Encoding", "gzip"), ("Authorization", "Bearer é"), ("Authorization", "Bearer"), ("Authorization", "\x80"),
    ("X-Request-ID", "x" * 129), ("Last-Event-ID", "é"), ("Last-Event-ID", "-1"), ("Accept", "text/html"),
)  # fmt: skip
_RAW = (b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"\xef\xbb\xbf{}", b"{}{}", b'{"a":1,"a":2}', b"NaN", b"[" * 10_000)

_text = st.sampled_from(TEXTS) | st.text(max_size=20)
_which = st.integers(0, 2**16)
#: How a request is changed, and with what: (how, which place or what, value).
changes = st.one_of(
    st.tuples(st.just("value"), _which, _text | st.sampled_from(_VALUES)),
    st.tuples(st.just("name"), _text, st.none()),
    st.tuples(st.just("header"), st.sampled_from(_HEADERS), st.none()),
    st.tuples(st.just("type"), st.sampled_from(_MEDIA_TYPES), st.none()),
    st.tuples(st.just("raw"), st.sampled_from(_RAW) | st.binary(max_size=20), st.none()),
)


@dataclass(frozen=True)
class Odd:
    """A request that may be odd."""

    ask: Ask
    #: In place of the body.
    raw: bytes | None = None
    media_type: str = "application/json"
    #: Its path may lead elsewhere.
    strayed: bool = False

    def changed(self, how: str, what: Any, value: Any) -> Odd:
        """With one more oddity out of `changes`."""
        match how:
            case "header":
                return replace(self, ask=replace(self.ask, headers={**self.ask.headers, what[0]: what[1]}))
            case "type":
                return replace(self, media_type=what)
            case "raw":
                return replace(self, raw=what)
            case "name" if isinstance(self.ask.body, dict):
                return replace(self, ask=replace(self.ask, body={**self.ask.body, what: what}))
            case "name":
                return replace(self, ask=replace(self.ask, query={**self.ask.query, what: what}))
        places = [*self.ask.places(), *(("body", *place) for place in _everywhere(self.ask.body))]
        return self._with(places[what % len(places)], value) if places else self

    def send(self, caller: Caller) -> TestResponse:
        """What it is answered."""
        path = {part: quote(text, safe="", errors="surrogatepass") for part, text in self.ask.path.items()}
        query = urlencode(self.ask.query, errors="surrogatepass")
        body = json.dumps(self.ask.body).encode() if self.ask.endpoint.body else None
        return caller.call(
            self.ask.endpoint.method, replace(self.ask, path=path).url, query_string=query,
            headers={"Content-Type": self.media_type, **self.ask.headers}, data=body if self.raw is None else self.raw,
        )  # fmt: skip

    def _with(self, place: Place, value: Any) -> Odd:
        if place[0] == "body":
            return replace(self, ask=self.ask.put(place, value))
        text = value if isinstance(value, str) else json.dumps(value)
        return replace(self, ask=self.ask.put(place, text), strayed=self.strayed or place[0] == "path")


def _everywhere(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values in a body."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*place, key)
            yield from _everywhere(item, (*place, key))
