"""One rig for all scenarios, with short leases; each scenario starts with empty tables and is healed after."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests.chaos.rig import Rig, a_rig
from tests.chaos.tasks import Tasks
from tests.conftest import _ENV, _forget, missing
from workers.sandbox.choose import probe

LEASE_S = 3


@pytest.fixture(scope="session")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("chaos") / "home"
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(_ENV):
                environment.delenv(name)
        environment.setenv("CLAWQ_HOME", str(home))
        _forget()
        try:
            with a_rig(home, environment, CLAWQ_LEASE_S=str(LEASE_S), CLAWQ_DRAIN_S="5") as rig:
                yield rig
                rig.sweep()
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
    made.inside.sql("TRUNCATE tasks, edges, attempts, events, idempotency")
    yield made
    made.close()


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Programs can run here."""
    if not any(found.usable for found in probe(Settings())):
        missing("no sandbox")
