"""Both sandboxes, for real. One that this machine cannot offer skips, or fails with CLAWQ_TESTS_STRICT=1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.conftest import missing
from tests.integration.sandbox.sandboxes import STACK, Run, in_docker, run_in
from workers.sandbox import Sandbox, probe
from workers.sandbox.docker import DockerSandbox, connect
from workers.sandbox.process import ProcessSandbox

#: Debian's python3 and node.
JAVASCRIPT = Settings().sandbox_javascript_image


def _require(kind: str) -> None:
    found = next(found for found in probe(Settings()) if found.name == kind)
    if found.usable:
        return
    missing(f"no {kind} sandbox: {found.sentence}")


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """The engine, and at the end no container of ours on it."""
    _require("docker")
    client = connect()
    yield client
    for container in client.api.containers(all=True, filters={"label": f"clawq.stack={STACK}"}):
        client.api.remove_container(container["Id"], force=True)
    client.close()


@pytest.fixture(scope="session")
def docker_sandbox(client: docker.DockerClient) -> DockerSandbox:
    return in_docker(client)


@pytest.fixture(scope="session")
def javascript_image(client: docker.DockerClient) -> str:
    try:
        client.images.get(JAVASCRIPT)
    except docker.errors.ImageNotFound:
        missing(f"no image {JAVASCRIPT}: `ops/airgap/build javascript`")
    return JAVASCRIPT


@pytest.fixture(scope="session")
def process_sandbox() -> ProcessSandbox:
    _require("process")
    return ProcessSandbox()


@pytest.fixture(params=["docker", "process"])
def sandbox(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_sandbox")


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    """Run one program in the sandbox under test."""
    return lambda *args, **options: run_in(sandbox, *args, **options)
