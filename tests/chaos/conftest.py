"""One rig for all scenarios, with short leases; each scenario starts with empty tables and is healed after."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.local import home as homes
from app.local.home import Home
from app.local.plan import Plan, make_plan
from app.settings import Settings
from benchmarks import sleeping
from tests.chaos.rig import Rig, a_rig
from tests.chaos.tasks import Tasks
from tests.conftest import _ENV, _forget, missing
from workers.sandbox.choose import probe

#: Short leases, so that recovery can be awaited; a drain that is longer than the programs that have to end in it.
SETTINGS = {
    **dict.fromkeys(("CLAWQ_API_PORT", "CLAWQ_WS_PORT", "CLAWQ_FLOWER_PORT"), "0"),
    "CLAWQ_LEASE_S": "3",
    "CLAWQ_DRAIN_S": "5",
}


@pytest.fixture(scope="package")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = homes.open_home(tmp_path_factory.mktemp("chaos") / "home")
    try:
        plan = _plan(home, sleeping.procfile(home.path / "Procfile"))
    except SettingsError as exc:
        missing(f"no stack: {exc}")
    with a_rig(plan, home) as rig:
        yield rig
        rig.sweep()


def _plan(home: Home, procfile: Path) -> Plan:
    """What a stack in this home consists of, whatever the machine's settings are."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(_ENV)]:
            environment.delenv(name)
        for name, value in (SETTINGS | sleeping.ENVIRONMENT).items():
            environment.setenv(name, value)
        environment.setenv("CLAWQ_HOME", str(home.path))
        _forget()
        try:
            return make_plan(home, procfile, secrets.token_hex(16), lambda *_, **__: None)
        finally:
            _forget()


@pytest.fixture
def rig(_rig: Rig) -> Iterator[Rig]:
    """A healthy stack."""
    yield _rig
    _rig.heal()


@pytest.fixture
def tasks(rig: Rig) -> Iterator[Tasks]:
    """No tasks yet. A scenario ends with `tasks.settle()`."""
    made = Tasks(rig.api_url, rig.api_key, rig.home.path)
    made.empty()
    yield made
    made.close()


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Programs can run here."""
    if not any(found.usable for found in probe(Settings())):
        missing("no sandbox")
