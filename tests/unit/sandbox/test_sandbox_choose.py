import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from app.settings import Settings
from workers.sandbox import Callbacks, SandboxSpec, Verdict, choose, probe, process, stack_name
from workers.sandbox.docker import DockerSandbox

SPEC = SandboxSpec(name="t-1", language="python", code="print(1)")


# The Docker SDK does not close the socket on which it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Have that warned about here, where it is ignored, and not in some later test."""
    yield
    gc.collect()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without an engine and without Landlock."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(process, "probe", lambda: "The kernel has no Landlock.")


@pytest.mark.usefixtures("nowhere")
def test_without_any_sandbox_a_run_fails_and_names_both_reasons() -> None:
    result = choose(Settings(sandbox="auto"), worker="w", instance="i").run(
        SPEC, stop=threading.Event(), callbacks=Callbacks()
    )
    assert result.verdict is Verdict.INFRA_ERROR
    assert "No container engine answers" in str(result.error)
    assert "no Landlock" in str(result.error)
    assert result.stdout == ""


@pytest.mark.usefixtures("nowhere")
def test_a_forced_kind_never_falls_back() -> None:
    sandbox = choose(Settings(sandbox="process"), worker="w", instance="i")
    assert sandbox.name == "none"
    error = sandbox.run(SPEC, stop=threading.Event(), callbacks=Callbacks()).error
    assert "engine" not in str(error)


@pytest.mark.usefixtures("nowhere")
def test_probe_tells_about_both() -> None:
    assert [(kind.name, kind.usable) for kind in probe(Settings())] == [("docker", False), ("process", False)]


def test_a_disabled_engine_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sandbox.docker.docker.from_env", lambda **_: pytest.fail("asked"))
    found, _process = probe(Settings(docker_enabled=False))
    assert (found.usable, found.sentence) == (False, "DOCKER_ENABLED is false.")


def test_an_engine_that_went_away_is_an_infra_error(tmp_path: Path) -> None:
    client = docker.DockerClient(base_url=f"unix://{tmp_path}/gone.sock", version="1.41")
    sandbox = DockerSandbox(client, images={"python": "i"}, labels={})
    result = sandbox.run(SPEC, stop=threading.Event(), callbacks=Callbacks())
    assert result.verdict is Verdict.INFRA_ERROR
    assert "engine" in str(result.error)


def test_a_stack_is_named_by_its_home(tmp_path: Path) -> None:
    assert stack_name(Settings(home=tmp_path)) == stack_name(Settings(home=tmp_path / "x" / ".."))
    assert stack_name(Settings(home=tmp_path)) != stack_name(Settings(home=tmp_path / "x"))
