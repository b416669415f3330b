"""A thread pool for Celery workers that can grow and shrink while it works.

Jobs here wait for containers, sockets and Postgres, so threads carry many at once. Celery's own thread pool has
no `grow` and `shrink`, so `celery control pool_grow` and `--autoscale` do nothing on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from celery.concurrency import ALIASES
from celery.concurrency.base import BasePool, apply_target

from app.settings import settings

log = logging.getLogger(__name__)

#: Seconds that stopped programs have, after a drain, to die and to be handed back.
_GRACE_S = 5.0

#: A job, or None to tell one thread to leave.
_Job = Callable[[], Any] | None


class ThreadPool(BasePool):
    """Daemon threads over one queue of jobs."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, limit: int, **kwargs: Any) -> None:
        # Celery asks for none with `--autoscale=8`.
        super().__init__(max(1, limit), **kwargs)
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._threads: set[threading.Thread] = set()

    def on_start(self) -> None:
        """Start as many threads as the worker's concurrency."""
        self._spawn(self.limit)

    def on_stop(self) -> None:
        """Drop jobs that no thread has taken (they are not acked, so they return to the queue); wait for the rest.

        The rest ends within `drain_s`, and then says so to Postgres. What cannot, because Postgres or an engine hangs,
        is left alone after `_GRACE_S`: its lease runs out.
        """
        while True:
            try:
                self._jobs.get_nowait()
            except Empty:
                break
        threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        deadline = time.monotonic() + settings().drain_s + _GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if left := sum(thread.is_alive() for thread in threads):
            log.error("%d jobs do not end and are left to their leases", left)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Queue one job."""
        self._jobs.put(lambda: apply_target(target, args, kwargs, callback, accept_callback))

    def grow(self, n: int = 1) -> None:
        """Add `n` threads."""
        self.limit += n
        self._spawn(n)

    def shrink(self, n: int = 1) -> None:
        """Let `n` threads leave, each after the job it has. Raises ValueError if fewer than one would stay."""
        if self.limit - n < 1:
            raise ValueError(f"cannot shrink by {n}: {self.limit} slots, and at least one must stay")
        self.limit -= n
        for _ in range(n):
            self._jobs.put(None)

    def _spawn(self, n: int) -> None:
        for _ in range(n):
            thread = threading.Thread(target=self._work, name="slot", daemon=True)
            # Before the start, for it may leave at once; one that does not start can be waited for by nobody.
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.discard(thread)
                raise

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                # Such as an ack on a broken connection: the slot must live on.
                log.exception("a job left its slot with an error")
        self._threads.discard(threading.current_thread())

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "max-concurrency": self.limit, "threads": len(self._threads)}


# `celery worker -P threads` should mean this pool too.
ALIASES["threads"] = "app.pool:ThreadPool"
