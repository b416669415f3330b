"""Hostile programs, each with the one result it must give, and a machine that is afterwards as it was before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.integration.sandbox.battery.artifacts import ARTIFACTS
from tests.integration.sandbox.battery.ends import ENDS
from tests.integration.sandbox.battery.kernel import KERNEL
from tests.integration.sandbox.battery.output import OUTPUT
from tests.integration.sandbox.battery.program import Program, profile
from tests.integration.sandbox.battery.protocol import PROTOCOL
from tests.integration.sandbox.battery.resources import RESOURCES
from tests.integration.sandbox.machine import Machine
from tests.integration.sandbox.sandboxes import Heard, in_docker, unique, until
from workers.sandbox import Sandbox

PROGRAMS = {program.name: program for program in (*RESOURCES, *OUTPUT, *ARTIFACTS, *KERNEL, *PROTOCOL, *ENDS)}
CONFINED = [name for name, program in PROGRAMS.items() if program.process]
#: Programs at once: a container that starts, or a program, keeps a core busy.
AT_ONCE = 3


class Battery:
    """Runs the programs that were selected, a few at once, ahead of the tests that look at their results."""

    def __init__(self, sandbox: Sandbox, programs: list[Program], machine: Machine) -> None:
        self._sandbox, self._machine = sandbox, machine
        machine.closing.append(self.close)
        self._executor = ThreadPoolExecutor(AT_ONCE)
        self._runs = {program.name: self._executor.submit(self._run, program) for program in programs}

    def differences(self, program: Program) -> list[str]:
        return self._runs[program.name].result()

    def close(self) -> None:
        """Wait for those that run; afterwards nothing of them is there."""
        self._executor.shutdown(cancel_futures=True)
        self._sandbox.close()

    def _run(self, program: Program) -> list[str]:
        heard = Heard(started=self._machine.containers)
        expected = program.docker if self._sandbox.name == "docker" else program.process
        assert expected is not None
        spec = program.spec(unique("battery"), str(self._machine.canary))
        result = self._sandbox.run(spec, stop=Event(), callbacks=heard.callbacks())
        try:
            found = expected.differences(result, heard.progress)
        finally:
            result.close()
        return [*found, f"stderr was {result.stderr[-1500:]!r}", f"error: {result.error}"] if found else []


@pytest.fixture(scope="module")
def machine(client: docker.DockerClient) -> Iterator[Machine]:
    """The machine before the first program."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        os.chmod(directory, 0o777)
        patch.setattr(tempfile, "tempdir", directory)
        patch.setenv("SOMETHING_OF_OURS", "battery-secret-value")
        machine = Machine(client.api, Path(directory))
        yield machine
        machine.close()


@pytest.fixture(scope="module")
def docker_battery(machine: Machine, client: docker.DockerClient, request: pytest.FixtureRequest) -> Battery:
    sandbox = in_docker(client, warm={profile(Settings().sandbox_image): AT_ONCE})
    sandbox.open()
    return Battery(sandbox, _selected(request, "test_in_docker"), machine)


@pytest.fixture(scope="module")
def process_battery(machine: Machine, process_sandbox: Sandbox, request: pytest.FixtureRequest) -> Battery:
    return Battery(process_sandbox, _selected(request, "test_in_process"), machine)


def _selected(request: pytest.FixtureRequest, test: str) -> list[Program]:
    """The programs that this session will ask for, in its order."""
    items: list[Any] = [item for item in request.session.items if getattr(item, "originalname", "") == test]
    return [PROGRAMS[item.callspec.params["name"]] for item in items]


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_docker(docker_battery: Battery, name: str) -> None:
    differences = docker_battery.differences(PROGRAMS[name])
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", CONFINED)
def test_in_process(process_battery: Battery, name: str) -> None:
    differences = process_battery.differences(PROGRAMS[name])
    assert not differences, "\n".join(differences)


def test_afterwards_the_machine_is_as_it_was(machine: Machine) -> None:
    """No process, file, mount, container, network or volume more; kernel, host name and free memory unchanged."""
    machine.close()
    # The engine still removes containers.
    with suppress(AssertionError):
        until(lambda: not machine.changes())
    assert machine.changes() == []
