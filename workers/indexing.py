"""The Celery job `memory.index`: bring the index up to date with Postgres, batch by batch (index_batch.py)."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import publisher
from app.celery import celery_app
from app.db import single, statements
from app.embeddings.base import Embedder
from app.embeddings.choose import embedder
from app.errors import SettingsError
from app.memory import generations, index, outbox
from app.memory.index import IndexAway
from app.queues import INDEX, Queue
from workers.index_batch import work

log = logging.getLogger(__name__)

#: Seconds after which an indexer makes room for what else waits in its queue, and rings for the rest.
_TURN_S = 5.0
#: The smallest batch.
_LEAST = 16
#: Memories after which the planner is told of them: to wait for autovacuum would make a minute of slow searches.
_MANY = 2000
#: Seconds before the same is said again.
_SAY_AGAIN_S = 60.0


class Indexer:
    """One at a time in a process: another would wait for the same Chroma."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._untold = 0
        self._batch = outbox.BATCH
        self._said: dict[str, float] = {}

    def run(self) -> None:
        """Index what is due, unless that is being done."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            with_what = embedder()
            self._prepare(with_what)
            if self._work(with_what):
                self._finish()
            else:
                publisher.ring_indexer()
        except IndexAway as exc:
            # It may be that so many take too long: vectors that are nearly alike do.
            self._batch = max(self._batch // 2, _LEAST)
            self._complain(exc.detail)
        except (SQLAlchemyError, SettingsError) as exc:
            # The clock asks again, every second.
            self._complain(exc.detail if isinstance(exc, SettingsError) else f"Postgres: {type(exc).__name__}.")
        finally:
            self._turn.release()

    def _work(self, with_what: Embedder) -> bool:
        """Whether all that was due is done."""
        until = time.monotonic() + _TURN_S
        while done := work(with_what, self._batch):
            self._untold += done
            self._batch = min(self._batch * 2, outbox.BATCH)
            if time.monotonic() > until:
                return False
        return True

    def _prepare(self, with_what: Embedder) -> None:
        """See to it that there is an index, and that Chroma has its collection."""
        with statements() as db:
            found = generations.serving(db)
            if not found:
                generations.start(db, with_what, status="active")
                found = generations.serving(db)
        if all(one.embedder != with_what.name for one in found):
            self._complain(
                f"The embedder is {with_what.name}, and the index was made with {found[0].embedder}: searches go by"
                " words alone, and nothing is indexed, until `clawq memory rebuild`."
            )
        for one in found:
            collection_id = index.create(one.collection)
            if collection_id == one.collection_id:
                continue
            with statements() as db:
                if one.collection_id is None:
                    generations.named(db, one.id, collection_id)
                elif generations.lost(db, one, collection_id):
                    log.warning("Chroma has lost the collection %s: all is indexed again", one.collection)

    def _finish(self) -> None:
        """With nothing left to do: let a generation that is built take over, and remove those that are retired."""
        if self._untold >= _MANY:
            with single() as db:
                db.execute(text("ANALYZE memory"))
            self._untold = 0
        with statements() as db:
            for one in generations.serving(db):
                if one.status == "building" and generations.flip(db, one.id):
                    log.info("memories are searched in %s from now on", one.collection)
        with statements() as db:
            retired = generations.retired(db)
        for one in retired:
            index.drop(one.collection)
            with statements() as db:
                generations.remove(db, one.id)

    def _complain(self, sentence: str) -> None:
        if time.monotonic() - self._said.get(sentence, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._said = {sentence: time.monotonic()}
            log.warning("%s", sentence)


_indexer = Indexer()


@celery_app.task(name=INDEX)
def bring_up_to_date() -> None:
    """Index what is due."""
    publisher.answer(Queue.MEMORY)
    _indexer.run()
