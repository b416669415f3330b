"""The docker sandbox: one hardened container per run, used once and removed.

Nothing of ours is in it but the supervisor, whose source comes over the stream: any image with python3 will do. Runs of
a profile that the warm pool keeps get a container that is started already.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import docker
from docker.errors import APIError, ImageNotFound

from workers.sandbox import gvisor
from workers.sandbox.baggage import Images
from workers.sandbox.container import ENGINE_ERRORS, Container
from workers.sandbox.conversation import Conversation, Heard, LinkError, failed, rejected
from workers.sandbox.frames import FrameError
from workers.sandbox.job import problem
from workers.sandbox.profile import HOST, INSTANCE, STACK, Profile, options
from workers.sandbox.reaper import reap
from workers.sandbox.removals import Removals
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop, Verdict
from workers.sandbox.starts import Starts
from workers.sandbox.verdict import judge
from workers.sandbox.warm import WarmPool

#: Seconds that closing takes at most; an engine may hang. The reaper has what is left then.
CLOSE_S = 5.0


def connect(*, timeout_s: int = 60) -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST names. Raises one of ENGINE_ERRORS if none answers."""
    client = docker.from_env(timeout=timeout_s, max_pool_size=64)
    if client.api.base_url.startswith("http+docker://"):
        # A local socket has no proxy; requests would look for one in the environment each time.
        client.api.trust_env = False
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


class DockerSandbox:
    """Runs each program in a container of its own. Safe to use from many threads."""

    name = "docker"

    def __init__(
        self,
        client: docker.DockerClient,
        *,
        images: Mapping[str, str],
        labels: Mapping[str, str],
        warm: Mapping[Profile, int] | None = None,
        runtime: str | None = None,
    ) -> None:
        """`images` by language, `warm` containers of each profile; STACK, HOST and INSTANCE are among the `labels`.

        `runtime` is for those that name none.
        """
        self._api = client.api
        self._images, self._labels, self._runtime = images, labels, runtime
        self._known = Images(client.api)
        self._starts = Starts()
        self._removals = Removals()
        self._pool = WarmPool(self._start, self._removals.add, warm or {}, self._starts)
        #: Ids of the containers that wait, run or are about to be removed.
        self._held: set[str] = set()
        #: Ids of ours that were not among them when the reaper last looked.
        self._strays: set[str] = set()

    def open(self) -> None:
        """See `Sandbox.open`."""
        self._pool.open()

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """See `Sandbox.run`."""
        sentence = problem(spec)
        if sentence is not None:
            return rejected(sentence, self.name)
        if spec.network and gvisor.is_gvisor(spec.runtime or self._runtime):
            return rejected("A program under gVisor has no network: its runtime is registered without.", self.name)
        profile = Profile.of(spec, self._images, self._runtime)
        conversation = Conversation(spec, stop, callbacks)
        try:
            container = self._obtain(profile, stop)
        except TimeoutError:
            return SandboxResult(verdict=Verdict.CANCELLED, sandbox=self.name, error="The run was stopped.")
        except ImageNotFound:
            return failed(missing_image(profile.image), self.name)
        except (*ENGINE_ERRORS, LinkError) as exc:
            return failed(_explained(exc, profile), self.name)
        return self._use(container, conversation, spec, callbacks)

    def reap(self, is_orphan: Callable[[str, str], bool]) -> list[str]:
        """See `Sandbox.reap`."""
        strays = set()

        def is_left(instance: str, container_id: str) -> bool:
            if instance != self._labels[INSTANCE]:
                return is_orphan(instance, container_id)
            if container_id in self._held:
                return False
            # The engine was away when it should have removed it, or said that it made it. Seen once, it may be new.
            strays.add(container_id)
            return container_id in self._strays

        try:
            removed = reap(self._api, self._labels[STACK], self._labels[HOST], is_left)
            self._strays = strays
            return removed
        except ENGINE_ERRORS as exc:
            raise OSError(f"the container engine failed: {exc}") from exc

    def waiting(self) -> int:
        """See `Sandbox.waiting`."""
        return self._pool.depth()

    def close(self) -> None:
        """See `Sandbox.close`."""
        give_up = time.monotonic() + CLOSE_S
        self._pool.close()
        # A start that has begun gives another container to remove.
        self._pool.join(give_up - CLOSE_S / 2)
        self._removals.close(give_up)

    def _obtain(self, profile: Profile, stop: Stop) -> Container:
        """A container that waits, or a new one. Raises TimeoutError if `stop` is set meanwhile."""
        waiting = self._pool.take(profile)
        if waiting:
            return waiting
        with self._starts.for_task(stop.is_set):
            # While this one waited for its turn, another may have been put in reserve.
            return self._pool.take(profile) or self._start(profile)

    def _start(self, profile: Profile) -> Container:
        made_with = options(self._api, profile, self._labels, self._known.baggage(profile.image))
        return Container(self._api, profile, made_with, self._held)

    def _use(
        self, container: Container, conversation: Conversation, spec: SandboxSpec, callbacks: Callbacks
    ) -> SandboxResult:
        """Hold the conversation; afterwards nothing of the program runs."""
        is_dead = False
        try:
            callbacks.started(container.id)
            heard = conversation.hold(container.link)
            # The supervisor has killed and reaped all others. A stop is not reported before the engine has said so too.
            is_dead = heard.ending.report is not None and heard.ending.cause != "cancelled"
            result = self._judge(container, heard, spec)
        except ENGINE_ERRORS as exc:
            result = failed(_explained(exc), self.name)
        except (LinkError, FrameError) as exc:
            result = failed(f"The sandbox broke: {exc}", self.name)
        except BaseException:
            self._removals.add(container)
            raise
        if is_dead:
            self._removals.add(container)
            return result
        try:
            container.remove()
        except ENGINE_ERRORS as exc:
            result.close()
            return failed(f"{_explained(exc)} Whether the program still runs is not known.", self.name)
        return result

    def _judge(self, container: Container, heard: Heard, spec: SandboxSpec) -> SandboxResult:
        ending = heard.ending
        place = {"sandbox": self.name, "warm": container.warm, **gvisor.place(container.profile.runtime)}
        if ending.report or ending.cause:
            return heard.result(judge(ending, spec.limits), **place)
        # The supervisor fell silent. That is for the engine to explain (and raises if the engine is gone).
        state = container.end_state()
        if not ending.started:
            complaint = container.complaint or state.get("Error") or f"exit code {state['ExitCode']}"
            raise LinkError(f"the supervisor did not start in {container.profile.image}: {complaint}.")
        # It ran and was killed: no fault of the engine, and nothing that should buy the program a retry.
        number = state["ExitCode"] - 128 if state["ExitCode"] > 128 else 9
        return heard.result(judge(ending.silenced(signal=number), spec.limits, oom=state["OOMKilled"]), **place)


def missing_image(image: str) -> str:
    return f"The image {image} is not on this engine: `docker pull {image}`, or `ops/airgap/build {image}` offline."


def _explained(exc: Exception, profile: Profile | None = None) -> str:
    detail = exc.explanation if isinstance(exc, APIError) else exc
    if profile and profile.runtime and re.search("unknown .*runtime", str(detail), re.IGNORECASE):
        return f"The container engine has no runtime {profile.runtime}; `ops/sandbox/runsc` registers gVisor."
    return f"The container engine failed: {detail}."
