"""What only the docker sandbox promises: how its containers are made, named, labelled and removed."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import textwrap
import threading
from contextlib import ExitStack
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.integration.sandbox.sandboxes import HOST, LABELS, STACK, Heard, in_docker, run_in, until
from workers.sandbox import Verdict, choose
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.frames import DONE, END, pack
from workers.sandbox.profile import Profile
from workers.sandbox.reaper import reap
from workers.sandbox.starts import MOST


def ours(client: docker.DockerClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": f"clawq.stack={STACK}"})
    return found


def test_a_container_is_hardened_labelled_and_gone_afterwards(
    client: docker.DockerClient, docker_sandbox: DockerSandbox
) -> None:
    """Looked at in the started callback, when it waits and no code has been sent."""
    seen: dict[str, Any] = {}

    class Looking(Heard):
        def callbacks(self) -> Any:
            self.started = type("Look", (), {"append": lambda _, i: seen.update(client.api.inspect_container(i))})()
            return super().callbacks()

    assert run_in(docker_sandbox, "print(1)", heard=Looking(), memory_mb=64).verdict is Verdict.OK
    until(lambda: ours(client) == [])
    assert seen["State"]["Status"] == "running"
    labels = {key: value for key, value in seen["Config"]["Labels"].items() if key.startswith("clawq.")}
    assert labels == LABELS
    config, host = seen["Config"], seen["HostConfig"]
    assert (config["User"], config["NetworkDisabled"], config["StdinOnce"]) == ("65532:65532", True, True)
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 << 20, 64 << 20, 65)
    assert (host["NanoCpus"], host["Init"], host["IpcMode"]) == (1_000_000_000, False, "private")
    assert host["LogConfig"]["Type"] == "none"
    assert not host["Binds"]
    assert not seen["Mounts"]
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert host["SecurityOpt"][1].startswith("seccomp={")
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {
        "nofile": 4096,  # the supervisor's; the program has its own
        "fsize": 1024 << 20,
        "core": 0,
    }


def test_the_status_inside_agrees(docker_sandbox: DockerSandbox) -> None:
    result = run_in(docker_sandbox, "print(open('/proc/self/status').read()); print(open('/proc/net/dev').read())")
    status = dict(line.split(":", 1) for line in result.stdout.splitlines() if ":" in line)
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert status["Uid"].split() == ["65532"] * 4
    assert [name for name in status if name.strip() in ("lo", "eth0")] == ["    lo"]


def test_a_missing_image_is_named_with_the_way_to_get_it(client: docker.DockerClient) -> None:
    result = run_in(in_docker(client, "clawq.invalid/none:1"), "print(1)")
    assert result.verdict is Verdict.INFRA_ERROR
    assert "docker pull clawq.invalid/none:1" in str(result.error)
    assert "ops/airgap/build" in str(result.error)


def test_an_image_without_python_is_our_fault_not_the_programs(client: docker.DockerClient) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("workspace", "tmp", "proc", "dev"):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
    tag = f"clawq-test-empty:{STACK[-8:]}"
    client.api.import_image_from_data(archive.getvalue(), repository=tag.split(":")[0], tag=tag.split(":")[1])
    try:
        result = run_in(in_docker(client, tag), "print(1)")
    finally:
        client.api.remove_image(tag, force=True)
    assert result.verdict is Verdict.INFRA_ERROR
    assert "python3" in str(result.error)
    assert ours(client) == []


WORKER = """
    import sys, threading, time
    from workers.sandbox import Callbacks, Limits, SandboxSpec
    from workers.sandbox.docker import DockerSandbox, connect
    from workers.sandbox.profile import HOST, INSTANCE, STACK, Profile
    stack, host, image = sys.argv[1:]
    labels = {STACK: stack, HOST: host, INSTANCE: "i-doomed"}
    sandbox = DockerSandbox(connect(), images={"python": image}, labels=labels, warm={Profile(image=image): 1})
    sandbox.open()
    while not sandbox.waiting():
        time.sleep(0.01)
    code = "import time; print('up', flush=True); time.sleep(600)"
    spec = SandboxSpec(name="t", language="python", code=code, limits=Limits(pids=10))
    sandbox.run(spec, stop=threading.Event(), callbacks=Callbacks(output=lambda *_: print("up", flush=True)))
"""


@pytest.mark.usefixtures("docker_sandbox")
def test_containers_of_a_killed_worker_end_by_themselves_and_are_reaped(client: docker.DockerClient) -> None:
    """One that runs and one that waits. And nobody else's: not another host's or stack's, not what is in use."""
    arguments = [sys.executable, "-c", textwrap.dedent(WORKER), STACK, HOST, Settings().sandbox_image]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"up\n"
        finally:
            worker.kill()
    until(lambda: [container["State"] for container in ours(client)] == ["exited", "exited"])
    (first, second) = (container["Id"] for container in ours(client))
    asked = []

    def is_orphan(instance: str, container_id: str) -> bool:
        asked.append(instance)
        return container_id != first

    assert reap(client.api, STACK, "other-host", is_orphan) == []
    assert reap(client.api, "other-stack", HOST, is_orphan) == []
    assert reap(client.api, STACK, HOST, lambda *_: False) == []
    assert asked == []
    assert reap(client.api, STACK, HOST, is_orphan) == [second]
    assert asked == ["i-doomed"] * 2
    assert reap(client.api, STACK, HOST, lambda *_: True) == [first]
    assert ours(client) == []


@pytest.mark.usefixtures("docker_sandbox")
def test_auto_chooses_docker_where_it_is() -> None:
    sandbox = choose(Settings(sandbox="auto"), worker="w-1", instance="i-1")
    assert isinstance(sandbox, DockerSandbox)
    sandbox._api.close()


def test_a_run_of_the_pools_profile_is_warm_and_its_container_is_used_once(client: docker.DockerClient) -> None:
    sandbox = in_docker(client, warm={Profile(image=Settings().sandbox_image): 2})
    sandbox.open()
    try:
        until(lambda: sandbox.waiting() == 2)
        heard = [Heard(), Heard(), Heard()]
        results = [run_in(sandbox, "import os; print(os.listdir())", heard=h) for h in heard[:2]]
        assert [(r.verdict, r.warm) for r in results] == [(Verdict.OK, True)] * 2
        other = run_in(sandbox, "print(1)", heard=heard[2], memory_mb=300)
        assert (other.verdict, other.warm) == (Verdict.OK, False)
        assert len({h.started[0] for h in heard}) == 3
        until(lambda: sandbox.waiting() == 2)
        until(lambda: len(ours(client)) == 2)
        for container in ours(client):
            client.api.kill(container["Id"])
        assert run_in(sandbox, "print(1)").verdict is Verdict.OK
    finally:
        sandbox.close()
    until(lambda: ours(client) == [])


def test_a_stop_is_heard_while_a_run_waits_for_its_turn_to_start(client: docker.DockerClient) -> None:
    sandbox, stop = in_docker(client), threading.Event()
    with ExitStack() as turns:
        for _ in range(MOST):
            turns.enter_context(sandbox._starts.for_task(lambda: False))
        stop.set()
        result = run_in(sandbox, "print('ran')", stop=stop)
    assert (result.verdict, result.stdout) == (Verdict.CANCELLED, "")
    assert ours(client) == []


def test_what_the_engine_did_not_remove_when_asked_is_reaped_and_nothing_that_runs_is(
    client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = in_docker(client)
    stop = threading.Event()

    def refuse(*_: Any, **__: Any) -> None:
        raise docker.errors.DockerException("away")

    with monkeypatch.context() as broken:
        broken.setattr(client.api, "remove_container", refuse)
        assert run_in(sandbox, "print(1)").verdict is Verdict.OK
        until(lambda: not sandbox._held)
    (left,) = (container["Id"] for container in ours(client))
    runs = threading.Thread(target=run_in, args=(sandbox, "import time\ntime.sleep(60)"), kwargs={"stop": stop})
    runs.start()
    until(lambda: len(ours(client)) == 2 and len(sandbox._held) == 1)
    assert sandbox.reap(lambda *_: True) == []
    assert sandbox.reap(lambda *_: True) == [left]
    assert sandbox.reap(lambda *_: True) == []
    assert len(ours(client)) == 1
    stop.set()
    runs.join(20)
    until(lambda: ours(client) == [])


def test_what_an_image_brings_along_is_left_behind(client: docker.DockerClient) -> None:
    """Its volumes would be the host's disk, its variables would reach the supervisor's interpreter."""
    tag = f"clawq-test-baggage:{STACK[-8:]}"
    made = client.api.create_container(Settings().sandbox_image, command=["true"])["Id"]
    changes = ["ENV PYTHONPATH=/workspace PYTHONSTARTUP=/workspace/x MINE=1", "VOLUME /data"]
    client.api.commit(made, *tag.split(":"), changes=changes)
    client.api.remove_container(made)
    sandbox = in_docker(client, tag)
    forged = pack(END, b'{"exit_code": 0}') + pack(DONE, b'{"left": []}')
    trojan = f"import os; os.write(1, {forged!r})"
    try:
        result = run_in(
            sandbox,
            f"""
            import os, time
            open("json.py", "w").write({trojan!r})
            os.write(3, b'{{"progress": 1}}\\n'); time.sleep(0.3)
            try: open("/data/x", "w")
            except OSError as exc: print(exc.strerror)
            mounts = [line.split() for line in open("/proc/mounts")]
            print([mount[2] for mount in mounts if mount[1] == "/data"], os.environ.get("MINE"))
            os._exit(7)
            """,
        )
    finally:
        sandbox.close()
        until(lambda: ours(client) == [])
        client.api.remove_image(tag, force=True)
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 7)
    assert result.stdout == "Read-only file system\n['tmpfs'] None\n"
