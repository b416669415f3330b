"""The warm pool: started containers, each waiting for its one job, shared by all slots of a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from workers.sandbox.container import ENGINE_ERRORS, Container
from workers.sandbox.conversation import LinkError
from workers.sandbox.frames import FrameError
from workers.sandbox.profile import Profile
from workers.sandbox.removals import REST_S
from workers.sandbox.starts import Starts

log = logging.getLogger(__name__)

#: Seconds between looks at those that wait.
LOOK_S = 5.0
#: Seconds after which a container that nobody wanted makes place for a new one: of the image as it is by then.
AGE_S = 900.0
#: Seconds before another try after the engine refused one, growing to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class WarmPool:
    """Keeps the wanted number of containers of each profile started, with one thread that starts one at a time."""

    def __init__(
        self,
        start: Callable[[Profile], Container],
        discard: Callable[[Container], object],
        wanted: Mapping[Profile, int],
        starts: Starts,
    ) -> None:
        """`start` makes a container, `discard` gets rid of one soon and never raises."""
        self._start, self._discard, self._starts = start, discard, starts
        self._wanted = {profile: count for profile, count in wanted.items() if count > 0}
        self._idle: dict[Profile, deque[Container]] = {profile: deque() for profile in self._wanted}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        #: Profiles that did not start: the length of their pause in seconds, and when it is over.
        self._pauses: dict[Profile, tuple[float, float]] = {}
        self._taken_at = 0.0
        self._thread = threading.Thread(target=self._run, name="warm-pool", daemon=True)

    def open(self) -> None:
        """Begin to fill."""
        if self._wanted:
            self._thread.start()

    def take(self, profile: Profile) -> Container | None:
        """A container that waits, now the caller's alone; None if there is none."""
        while True:
            with self._lock:
                idle = self._idle.get(profile)
                container = idle.popleft() if idle else None
            if container is None:
                return None
            self._taken_at = time.monotonic()
            self._wake.set()
            if container.is_idle():
                container.warm = True
                return container
            self._discard(container)

    def depth(self) -> int:
        """Containers that wait."""
        with self._lock:
            return sum(map(len, self._idle.values()))

    def close(self) -> None:
        """Start no more, and discard those that wait."""
        with self._lock:
            self._closing.set()
            idle = [container for waiting in self._idle.values() for container in waiting]
            self._idle.clear()
        self._wake.set()
        for container in idle:
            self._discard(container)

    def join(self, give_up: float) -> None:
        """After `close`: wait for a start that has begun, until time.monotonic() is `give_up`."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                self._tend()
            except Exception:
                # This thread is the only one that fills the pool.
                log.exception("the warm pool stumbled")
                self._closing.wait(LOOK_S)

    def _tend(self) -> None:
        """Discard, start or rest: whatever comes next."""
        self._weed()
        missing = self._missing()
        # A start would slow down the run that has just begun; while others wait there is no hurry.
        rest_s = self._taken_at + REST_S - time.monotonic()
        if missing and rest_s > 0 and self.depth():
            self._closing.wait(rest_s)
        elif missing:
            self._add(missing)
        else:
            self._wake.wait(min([LOOK_S, *(max(0.0, until - time.monotonic()) for _, until in self._pauses.values())]))

    def _missing(self) -> Profile | None:
        """The profile that lacks most of what is wanted of it, of those that do not pause."""
        now = time.monotonic()
        with self._lock:
            lacks = {
                profile: 1 - len(idle) / self._wanted[profile]
                for profile, idle in self._idle.items()
                if now >= self._pauses.get(profile, (0, 0))[1]
            }
        most = max(lacks, key=lambda profile: lacks[profile], default=None)
        return most if most and lacks[most] > 0 else None

    def _add(self, profile: Profile) -> None:
        try:
            with self._starts.for_reserve(self._closing.is_set):
                container = self._started(profile)
        except TimeoutError:
            return
        except (*ENGINE_ERRORS, LinkError, FrameError) as exc:
            pause_s = min(max(2 * self._pauses.get(profile, (0, 0))[0], FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._pauses[profile] = (pause_s, time.monotonic() + pause_s)
            log.warning("no sandbox of %s in reserve, next try in %.0f s: %s", profile.image, pause_s, exc)
            return
        self._pauses.pop(profile, None)
        with self._lock:
            if not self._closing.is_set():
                self._idle[profile].append(container)
                return
        self._discard(container)

    def _started(self, profile: Profile) -> Container:
        container = self._start(profile)
        try:
            container.await_ready()
        except BaseException:
            self._discard(container)
            raise
        return container

    def _weed(self) -> None:
        """Discard what has died, and one that has grown old: the others of its age are needed until it is replaced."""
        now = time.monotonic()
        with self._lock:
            waiting = [container for idle in self._idle.values() for container in idle]
            gone = [container for container in waiting if not container.is_idle()]
            gone += [c for c in waiting if now - c.born > AGE_S and c not in gone][: 0 if gone else 1]
            for container in gone:
                self._idle[container.profile].remove(container)
        for container in gone:
            self._discard(container)
