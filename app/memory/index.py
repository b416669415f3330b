"""The index: collections of vectors in Chroma, each entry under the key `id:version` of a memory. No text goes there.

An entry never changes: a new version of a memory is another entry. So a write that comes late, from an indexer that was
stopped in the middle, cannot overwrite what is newer; Postgres says which version counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.breaker import CircuitBreaker
from app.errors import ClawqError, SettingsError
from app.settings import settings

if TYPE_CHECKING:
    from app.embeddings.base import Vectors
    from app.memory.chroma import Collection

Answer = TypeVar("Answer")

#: Chroma refuses more at once.
MOST_AT_ONCE = 5000
_PAGE = 1000


class IndexAway(ClawqError):
    """The index of memories does not answer."""

    code = "unavailable"
    http_status = 503


class IndexLost(ClawqError):
    """The index of memories has lost this collection."""


class IndexRefused(ClawqError):
    """The index of memories does not take this entry."""


@dataclass(frozen=True)
class Near:
    """An entry near to what was asked for."""

    memory_id: str
    version: int
    #: -1 to 1; 1 is the same direction.
    cosine: float


def key_of(memory_id: str, version: int) -> str:
    """The key of an entry."""
    return f"{memory_id}:{version}"


def create(name: str) -> str:
    """Make a collection unless it is there; returns the id that Chroma gives it. Raises IndexAway."""
    _forget(name)
    made = _ask(lambda client: client.make(name))
    return str(made.id)


def drop(name: str) -> None:
    """Remove a collection; one that is not there is no fault. Raises IndexAway."""
    _forget(name)
    try:
        _ask(lambda client: client.delete_collection(name))
    except IndexLost:
        return


def put(name: str, keys: Sequence[str], vectors: Vectors, metadatas: Sequence[Mapping[str, Any]]) -> None:
    """Write up to `MOST_AT_ONCE` entries; one that is there stays, for an entry never changes.

    Raises:
        IndexAway: Chroma does not answer; it may do it all the same.
        IndexLost: there is no such collection.
    """
    # To write what is there again would cost more than to write it.
    _in(name, lambda c: c.add(ids=list(keys), embeddings=vectors, metadatas=[dict(m) for m in metadatas]))


def remove(name: str, keys: Sequence[str]) -> None:
    """Remove entries; those that are not there are no fault. Raises IndexAway, IndexLost."""
    for start in range(0, len(keys), MOST_AT_ONCE):
        few = list(keys[start : start + MOST_AT_ONCE])
        _in(name, lambda c, few=few: c.delete(ids=few))  # type: ignore[misc]


def nearest(
    name: str,
    vectors: Vectors,
    count: int,
    *,
    keys: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> list[list[Near]]:
    """The entries nearest to each of `vectors`, nearest first, at most `count` for each.

    Args:
        keys: only among these, at most `MOST_AT_ONCE`. Twice as slow as without, at 10,000 entries.
        where: only those whose metadata fits, in Chroma's words. Five times as slow.

    Raises:
        IndexAway: Chroma does not answer.
        IndexLost: there is no such collection.
    """
    narrowed: dict[str, Any] = {"where": dict(where)} if where else {}
    if keys is not None:
        narrowed["ids"] = list(keys)
    found = _in(name, lambda c: c.query(query_embeddings=vectors, n_results=count, include=["distances"], **narrowed))
    return [
        [_near(key, distance) for key, distance in zip(ids, distances, strict=True)]
        for ids, distances in zip(found["ids"], found["distances"] or [], strict=True)
    ]


def keys(name: str) -> Iterator[list[str]]:
    """All keys of a collection, a page at a time. Raises IndexAway, IndexLost."""
    start = 0
    while True:
        page = _in(name, lambda c, start=start: c.get(include=[], limit=_PAGE, offset=start))["ids"]  # type: ignore[misc]
        if not page:
            return
        yield page
        start += len(page)


def holds(name: str, wanted: Sequence[str]) -> set[str]:
    """Which of these keys a collection has. Raises IndexAway, IndexLost."""
    found: set[str] = set()
    for start in range(0, len(wanted), MOST_AT_ONCE):
        few = list(wanted[start : start + MOST_AT_ONCE])
        found.update(_in(name, lambda c, few=few: c.get(ids=few, include=[]))["ids"])  # type: ignore[misc]
    return found


_breaker = CircuitBreaker()
_lock = threading.Lock()
_clients: list[Any] = []
_collections: dict[str, Collection] = {}


def close() -> None:
    """Forget the connection to Chroma; the next use makes another."""
    with _lock:
        for client in _clients:
            client.close()
        _clients.clear()
        _collections.clear()
    _breaker.succeeded()


def _near(key: str, distance: float) -> Near:
    memory_id, _, version = key.rpartition(":")
    return Near(memory_id, int(version), 1.0 - distance)


def _in(name: str, action: Callable[[Collection], Answer]) -> Answer:
    try:
        return _ask(lambda client: action(_collection(client, name)))
    except IndexLost:
        # Made anew under its name, perhaps, since we looked it up.
        if not _forget(name):
            raise
        return _ask(lambda client: action(_collection(client, name)))


def _collection(client: Any, name: str) -> Collection:
    if name not in _collections:
        _collections[name] = client.find(name)
    return _collections[name]


def _forget(name: str) -> bool:
    return _collections.pop(name, None) is not None


def _ask(action: Callable[[Any], Answer]) -> Answer:
    # Half a second once, in those processes alone that look into the index.
    from app.memory import chroma

    if not _breaker.allows():
        raise IndexAway
    try:
        answer = action(_client())
    except chroma.NotFoundError as exc:
        _breaker.succeeded()
        raise IndexLost from exc
    except chroma.REFUSALS as exc:
        raise IndexRefused(f"The index of memories does not take this: {exc}") from exc
    except SettingsError as exc:
        raise IndexAway(exc.detail) from exc
    # Its client raises bare exceptions for what a server may answer.
    except Exception as exc:
        _breaker.failed()
        raise IndexAway(f"The index of memories does not answer: {type(exc).__name__}.") from exc
    _breaker.succeeded()
    return answer


def _client() -> Any:
    from app.memory import chroma

    with _lock:
        if not _clients:
            _clients.append(chroma.connect(settings().require_vector_db_url()))
        return _clients[0]
