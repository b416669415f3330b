"""One container of the docker sandbox: started for one run, attached to us, removed afterwards."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Mapping
from typing import Any

import requests
from docker.errors import DockerException, NotFound

from workers.sandbox.conversation import BOOT_S, Link, LinkError
from workers.sandbox.frames import MAX_ANSWER, READY, Unpacker
from workers.sandbox.profile import SUPERVISOR, Profile

#: What the engine or the way to it may raise.
ENGINE_ERRORS = (DockerException, requests.RequestException)


class Container:
    """A started container whose supervisor waits for a job, or is about to."""

    def __init__(self, api: Any, profile: Profile, made_with: Mapping[str, Any], held: set[str]) -> None:
        """Create it with those options and start it; its id is among the `held` until it is removed, or was to be.

        Raises one of ENGINE_ERRORS, or LinkError; then nothing is left of it, unless the engine went away meanwhile.
        """
        self._api = api
        self._held = held
        self.profile = profile
        self.born = time.monotonic()
        #: Whether it had been waiting when its run came.
        self.warm = False
        self.id: str = api.create_container(**made_with)["Id"]
        held.add(self.id)
        try:
            stream = api.attach_socket(self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            # Over a Unix socket this is a file around the socket, which its own close() would leave open.
            self._stream, self._sock = stream, getattr(stream, "_sock", stream)
            self._demultiplexer = Demultiplexer()
            self.link = Link(self._sock, self._demultiplexer.feed)
            self.link.send(SUPERVISOR)
            api.start(self.id)
        except BaseException:
            self.remove()
            raise

    def await_ready(self) -> None:
        """Wait until the supervisor waits for its job, with what it has to import imported. Raises LinkError."""
        inbox = Unpacker(MAX_ANSWER)
        give_up = time.monotonic() + BOOT_S
        while time.monotonic() < give_up:
            data = self.link.receive()
            if data is None:
                break
            if any(kind == READY for kind, _ in inbox.feed(data)):
                return
        raise LinkError(f"the supervisor does not start in {self.profile.image}: {self.complaint or 'no answer'}.")

    @property
    def complaint(self) -> str:
        """The last line that the supervisor's interpreter wrote to its own stderr."""
        return self._demultiplexer.complaint

    def is_idle(self) -> bool:
        """Whether it still waits: its supervisor has said nothing since, and has not ended."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def end_state(self) -> dict[str, Any]:
        """The engine's word on how it ended: its State. Raises one of ENGINE_ERRORS if it has not, or none answers."""
        self._api.wait(self.id, timeout=10)
        state: dict[str, Any] = self._api.inspect_container(self.id)["State"]
        return state

    def remove(self) -> None:
        """Kill and remove it. Raises one of ENGINE_ERRORS if the engine cannot say that it is done."""
        if hasattr(self, "_stream"):
            self._stream.close()
            self._sock.close()
        try:
            self._remove()
        finally:
            self._held.discard(self.id)

    def _remove(self) -> None:
        for last in (False, True):
            try:
                self._api.remove_container(self.id, force=True, v=True)
            except NotFound:
                return
            except ENGINE_ERRORS:
                if last:
                    raise
            else:
                return


class Demultiplexer:
    """Takes the engine's framing (stream, length) off an attached connection."""

    _HEADER = struct.Struct(">BxxxI")

    def __init__(self) -> None:
        self._buffer = b""
        self._stderr = b""

    @property
    def complaint(self) -> str:
        """The end of what came on stderr."""
        return self._stderr.decode(errors="replace").strip().rpartition("\n")[2]

    def feed(self, data: bytes) -> bytes:
        """The bytes of stdout that `data` completes."""
        self._buffer += data
        stdout = []
        start = 0
        while len(self._buffer) - start >= self._HEADER.size:
            stream, length = self._HEADER.unpack_from(self._buffer, start)
            end = start + self._HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = self._buffer[end - length : end]
            if stream == 1:
                stdout.append(payload)
            else:
                self._stderr = (self._stderr + payload)[-2000:]
            start = end
        self._buffer = self._buffer[start:]
        return b"".join(stdout)
