"""Processes of a stack that listen: on which port, where clients find them, and what says that they are ready."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from app.errors import SettingsError
from app.local import files, ports
from app.local.home import Home
from app.settings import Settings


@dataclass(frozen=True)
class Listener:
    """One of them.

    Attributes:
        name: its line in the Procfile.
        scheme: of its URL.
        path: of its URL.
        probe_path: answers 200 once it does its work.
    """

    name: str
    scheme: str = "http"
    path: str = ""
    probe_path: str = "/ready"

    @property
    def variable(self) -> str:
        """The setting that says which port."""
        return f"CLAWQ_{self.name.upper()}_PORT"

    def wanted(self, config: Settings) -> int:
        """The port that the settings name, 0 for a free one."""
        port: int = getattr(config, f"{self.name}_port")
        return port

    def url(self, port: int) -> str:
        """Where clients find it."""
        return f"{self.scheme}://{ports.LOOPBACK}:{port}{self.path}"

    def probe(self, port: int) -> str:
        """Where to ask whether it is ready."""
        return f"http://{ports.LOOPBACK}:{port}{self.probe_path}"


LISTENERS = (
    Listener("api"),
    Listener("ws", scheme="ws", path="/ws"),
    Listener("flower", probe_path="/healthcheck"),
)


def choose_ports(home: Home, config: Settings, names: Collection[str]) -> dict[str, int]:
    """A port for each listener of these names: the one that is wanted, else the one that it had last, else a free one.

    Raises:
        SettingsError: one that is wanted is taken.
    """
    memo = home.path / "ports.json"
    remembered = files.read_json(memo)
    listeners = [listener for listener in LISTENERS if listener.name in names]
    chosen: dict[str, int] = {}
    # Those that are wanted first: no other may pick them.
    for one in sorted(listeners, key=lambda one: not one.wanted(config)):
        taken = chosen.values()
        chosen[one.name] = _checked(one, config, taken) or ports.pick(remembered.get(one.name), without=taken)
    picked = {one.name: chosen[one.name] for one in listeners if not one.wanted(config)}
    if picked:
        files.write_json(memo, {**remembered, **picked})
    return chosen


def _checked(listener: Listener, config: Settings, taken: Collection[int]) -> int:
    port = listener.wanted(config)
    if port and (port in taken or not ports.is_free(port)):
        raise SettingsError(
            f"Port {port} on {ports.LOOPBACK} is taken: set {listener.variable} to another, or to 0 for a free one."
        )
    return port
