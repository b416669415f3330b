"""An engine of our own that is killed, stopped, started again and filled up. Needs root: it starts a dockerd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from app.settings import Settings
from tests.integration.sandbox.sandboxes import Heard, in_docker, run_in, until
from workers.sandbox import SandboxResult, Verdict
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.profile import Profile

#: Bytes of the engine's disk: the image and little more.
DISK = 400 << 20


class Engine:
    """A dockerd with its own containerd, directories and socket, and a small disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"unix://{root}/docker.sock"
        (root / "data").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", root / "data"], check=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            # Without a bridge it removes the docker0 that it sees: in a network of its own there is none.
            *("unshare", "--net"),
            *("dockerd", "--host", self.url, "--data-root", self.root / "data", "--exec-root", self.root / "exec"),
            *("--pidfile", self.root / "pid", "--bridge=none", "--iptables=false", "--ip-forward=false"),
            *("--ip-masq=false",),
        ]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.answers, 60)

    def answers(self) -> bool:
        try:
            self.client().close()
        except (docker.errors.DockerException, OSError):
            return False
        return True

    def client(self) -> docker.DockerClient:
        client = docker.DockerClient(base_url=self.url, timeout=60, max_pool_size=16)
        client.ping()
        return client

    def end(self, number: int) -> None:
        """Signal it, and wait until it has gone."""
        assert self._process
        self._process.send_signal(number)
        self._process.wait(60)
        # Killed, it leaves a containerd that the next one would wait for in vain.
        subprocess.run(["pkill", "--signal", "KILL", "-f", f"containerd --config {self.root}/"], check=False)
        shutil.rmtree(self.root / "exec" / "containerd", ignore_errors=True)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.end(signal.SIGTERM)
        # After a SIGKILL its containerd has lost its parent and lives on.
        subprocess.run(["pkill", "-f", f"{self.root}/"], check=False)
        until(lambda: subprocess.run(["pgrep", "-f", f"{self.root}/"], capture_output=True).returncode == 1, 30)
        for place in (*self.root.glob("data/overlay2/*/merged"), self.root / "data"):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


@pytest.fixture(scope="module")
def engine(client: docker.DockerClient) -> Iterator[Engine]:
    """An engine with the image of the sandbox."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a dockerd of one's own needs root")
    with tempfile.TemporaryDirectory(prefix="clawq-e-", ignore_cleanup_errors=True) as root:
        engine = Engine(Path(root))
        try:
            engine.start()
            theirs = engine.client()
            theirs.api.timeout = 120
            image = Settings().sandbox_image
            theirs.images.load(b"".join(client.images.get(image).save(named=image)))
            theirs.close()
            yield engine
        finally:
            engine.close()


@pytest.fixture
def sandbox(engine: Engine) -> Iterator[DockerSandbox]:
    """A sandbox with a container in reserve on that engine, which runs."""
    if not engine.answers():
        engine.start()
    client = engine.client()
    sandbox = in_docker(client, warm={Profile(image=Settings().sandbox_image): 1})
    sandbox.open()
    until(lambda: sandbox.waiting() == 1, 30)
    yield sandbox
    sandbox.close()
    client.close()


def meanwhile(sandbox: DockerSandbox, event: object) -> SandboxResult:
    """The result of a program during which `event()` happened."""
    heard, results = Heard(), []
    code = "import time; print('up'); time.sleep(60)"
    run = threading.Thread(target=lambda: results.append(run_in(sandbox, code, heard=heard, wall_s=60)))
    run.start()
    assert heard.spoke.wait(30)
    event()  # type: ignore[operator]
    run.join(60)
    return results[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_goes_is_our_fault_and_one_that_comes_back_is_used_again(
    engine: Engine, sandbox: DockerSandbox, number: int
) -> None:
    result = meanwhile(sandbox, lambda: engine.end(number))
    assert (result.verdict, "engine" in str(result.error)) == (Verdict.INFRA_ERROR, True), result
    gone = run_in(sandbox, "print(1)")
    assert (gone.verdict, gone.stdout, "engine" in str(gone.error)) == (Verdict.INFRA_ERROR, "", True)
    engine.start()
    assert run_in(sandbox, "print(2)").stdout == "2\n"
    until(lambda: sandbox.waiting() == 1, 90)
    warm = run_in(sandbox, "print(3)")
    assert (warm.stdout, warm.warm) == ("3\n", True)


def test_a_full_disk_of_the_engine_is_named(engine: Engine, sandbox: DockerSandbox) -> None:
    filler = engine.root / "data" / "filler"
    dd = subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], check=False, capture_output=True)
    assert b"No space left" in dd.stderr
    try:
        result = run_in(sandbox, "print(1)", memory_mb=300)
        assert result.verdict is Verdict.INFRA_ERROR
        assert "no space left on device" in str(result.error)
    finally:
        filler.unlink()
    assert run_in(sandbox, "print(1)", memory_mb=300).stdout == "1\n"
