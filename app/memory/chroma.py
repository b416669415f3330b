"""Chroma's client over HTTP. It takes half a second and 54 MB to import, so index.py does so at its first use."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
from chromadb.api.fastapi import FastAPI
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings, System
from chromadb.errors import InvalidArgumentError, InvalidDimensionException, NotFoundError

__all__ = ["REFUSALS", "Collection", "NotFoundError", "connect"]

#: What is wrong with a request, not with the server.
REFUSALS = (InvalidArgumentError, InvalidDimensionException, ValueError, TypeError)

#: Seconds to connect, and to answer: less than Postgres lets a transaction wait (app/db.py).
_CONNECT_S, _ANSWER_S = 1.0, 8.0
#: Seconds for what somebody waits for who has words to go by without it.
_SEARCH_S = 1.5
#: Chroma's default space is not the cosine, and its default graph (16 neighbors, 100 candidates) finds 95 of the 100
#: nearest of sentences; this one 99, as fast, and takes two vectors for three. Every so many vectors it writes the
#: whole graph to the disk (6 kB a vector), and reads what came after that again when it starts: by default every
#: thousand, which at 70,000 vectors takes more time than all else.
_HNSW: Any = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 100,
    "sync_threshold": 5000,
}


class _Session(httpx.Client):
    def request(self, method: Any, url: Any, **kwargs: Any) -> httpx.Response:
        if method.upper() == "GET" or str(url).endswith("/query"):
            kwargs["timeout"] = httpx.Timeout(_SEARCH_S, connect=_CONNECT_S)
        return super().request(method, url, **kwargs)


class BoundedApi(FastAPI):
    """What `chromadb.HttpClient` wraps, with time-outs, and without the proxies that the environment may name."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        headers = self._session.headers
        self._session.close()
        timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
        self._session = _Session(timeout=timeout, limits=self.http_limits, headers=headers, trust_env=False)

    def make(self, name: str) -> Collection:
        """The collection of this name, made if need be."""
        return self._of(self.get_or_create_collection(name, configuration={"hnsw": _HNSW}))

    def find(self, name: str) -> Collection:
        """The collection of this name. Raises NotFoundError."""
        return self._of(self.get_collection(name))

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def _of(self, model: Any) -> Collection:
        # With a function to embed with, Chroma would fetch a model for it.
        return Collection(client=self, model=model, embedding_function=None)


def connect(url: str) -> BoundedApi:
    """A client of the server at `url`, which is first asked when it is used."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    settings = Settings(
        chroma_server_host=parts.hostname,
        chroma_server_http_port=parts.port or (443 if tls else 80),
        chroma_server_ssl_enabled=tls,
        anonymized_telemetry=False,
    )
    return BoundedApi(System(settings))
