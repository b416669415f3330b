"""What only the docker sandbox promises: how its containers are made, named, labelled and removed."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import textwrap
import threading
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.integration.sandbox.sandboxes import HOST, STACK, Heard, run_in, unique, until
from workers.sandbox import Verdict, choose
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.reaper import reap


def ours(client: docker.DockerClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": f"clawq.stack={STACK}"})
    return found


def test_a_container_is_hardened_labelled_and_gone_afterwards(
    client: docker.DockerClient, docker_sandbox: DockerSandbox
) -> None:
    """Looked at in the started callback, when it exists and no code has been sent."""
    seen: dict[str, Any] = {}

    class Looking(Heard):
        def callbacks(self) -> Any:
            self.started = type("Look", (), {"append": lambda _, i: seen.update(client.api.inspect_container(i))})()
            return super().callbacks()

    name = unique("t")
    assert run_in(docker_sandbox, "print(1)", name=name, heard=Looking(), memory_mb=64).verdict is Verdict.OK
    assert ours(client) == []
    assert seen["Name"] == f"/clawq-{name}"
    assert seen["State"]["Status"] == "created"
    labels = {key: value for key, value in seen["Config"]["Labels"].items() if key.startswith("clawq.")}
    assert labels == {"clawq.stack": STACK, "clawq.host": HOST, "clawq.worker": "w-1", "clawq.attempt": name}
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
        "fsize": 64 << 20,
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


def test_a_second_run_of_the_same_attempt_is_refused_and_leaves_the_first_alone(
    docker_sandbox: DockerSandbox,
) -> None:
    name, heard, stop = unique("t"), Heard(), threading.Event()
    results: list[Any] = []
    code = "import sys, time; print('up', flush=True); time.sleep(0.5); print('still here')"
    first = threading.Thread(target=lambda: results.append(run_in(docker_sandbox, code, name=name, heard=heard)))
    first.start()
    assert heard.spoke.wait(20)
    second = run_in(docker_sandbox, "print('twice')", name=name, stop=stop)
    first.join()
    assert (second.verdict, second.stdout) == (Verdict.INFRA_ERROR, "")
    assert "exists already" in str(second.error)
    assert (results[0].verdict, results[0].stdout) == (Verdict.OK, "up\nstill here\n")


def test_a_missing_image_is_named_with_the_way_to_get_it(client: docker.DockerClient) -> None:
    sandbox = DockerSandbox(client, image="clawq.invalid/none:1", stack=STACK, host=HOST, worker="w-1")
    result = run_in(sandbox, "print(1)")
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
        result = run_in(DockerSandbox(client, image=tag, stack=STACK, host=HOST, worker="w-1"), "print(1)")
    finally:
        client.api.remove_image(tag, force=True)
    assert result.verdict is Verdict.INFRA_ERROR
    assert "python3" in str(result.error)
    assert ours(client) == []


WORKER = """
    import sys, threading
    from workers.sandbox import Callbacks, SandboxSpec
    from workers.sandbox.docker import DockerSandbox, connect
    stack, host, name, image = sys.argv[1:]
    sandbox = DockerSandbox(connect(), image=image, stack=stack, host=host, worker="w-doomed")
    code = "import time; print('up', flush=True); time.sleep(600)"
    spec = SandboxSpec(name=name, language="python", code=code)
    sandbox.run(spec, stop=threading.Event(), callbacks=Callbacks(output=lambda *_: print("up", flush=True)))
"""


@pytest.mark.usefixtures("docker_sandbox")
def test_the_container_of_a_killed_worker_ends_by_itself_and_is_reaped(client: docker.DockerClient) -> None:
    """And nobody else's: not another host's, not another stack's, not that of an open attempt."""
    name = unique("t")
    arguments = [sys.executable, "-c", textwrap.dedent(WORKER), STACK, HOST, name, Settings().sandbox_image]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"up\n"
        finally:
            worker.kill()
    until(lambda: [container["State"] for container in ours(client)] == ["exited"])

    assert reap(client.api, STACK, "other-host", lambda attempt: False) == []
    assert reap(client.api, "other-stack", HOST, lambda attempt: False) == []
    assert reap(client.api, STACK, HOST, lambda attempt: attempt == name) == []
    assert len(ours(client)) == 1
    assert reap(client.api, STACK, HOST, lambda attempt: False) == [name]
    assert ours(client) == []


@pytest.mark.usefixtures("docker_sandbox")
def test_auto_chooses_docker_where_it_is() -> None:
    sandbox = choose(Settings(sandbox="auto"), worker="w-1")
    assert isinstance(sandbox, DockerSandbox)
    sandbox._api.close()
