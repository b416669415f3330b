"""A feed: a stream, a look at a time, as frames. Looks of many followers take turns at Postgres."""

from __future__ import annotations

import threading

from api.payloads.live import EventFrame, MessageFrame
from app.db import single
from app.streams.stream import Item, Stream

#: Looks at once: fewer than there are connections, more than may be slow.
_LOOKS = threading.BoundedSemaphore(8)


def look(stream: Stream) -> list[Item]:
    """What is new of a stream."""
    with _LOOKS, single() as db:
        return stream.look(db)


def has_ended(stream: Stream) -> bool:
    """Whether a stream has come to its end: asked after a look that left nothing."""
    with _LOOKS, single() as db:
        return stream.has_ended(db)


def frame(item: Item, ref: str | int | None = None) -> EventFrame | MessageFrame:
    """An item as clients see it."""
    told = {"cursor": item.cursor, "ref": ref}
    if item.letter is not None:
        return MessageFrame.model_validate({**item.letter._mapping, **told, "again": item.again})
    return EventFrame.model_validate({**item.event._mapping, **told})
