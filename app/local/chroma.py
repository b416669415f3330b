"""Chroma on one machine: the server that comes with its package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import signal
import sys
from pathlib import Path

from app.errors import SettingsError
from app.local import files, ports
from app.local.accounts import Account
from app.local.servers import Server
from app.memory import heartbeat

_PACKAGE = "chromadb"
_BINDINGS = "chromadb_rust_bindings"
_SERVE = Path(__file__).with_name("serve_chroma.py")
_DATA = "chroma"


def version() -> str:
    """The version that is installed.

    Raises:
        SettingsError: none is.
    """
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SettingsError(f"The package {_PACKAGE} is not installed: install it, or set VECTOR_DB_URL.") from None


def prepare(home: Path) -> Server:
    """Make what the server in this home needs (directory, port) and say how to start it.

    Args:
        home: the state directory; the server lives in `home/chroma`, its port in `home/chroma.json`.

    Raises:
        SettingsError: Chroma is not installed.
    """
    installed = version()
    files.private_dir(home / _DATA)
    memo = home / "chroma.json"
    port = ports.pick(files.read_json(memo).get("port"))
    files.write_json(memo, {"port": port})
    url = f"http://{ports.LOOPBACK}:{port}"
    return Server(
        name="chroma",
        version=f"Chroma {installed}",
        argv=(*_command(), "run", "--path", _DATA, "--host", ports.LOOPBACK, "--port", str(port)),
        cwd=home,
        # Ours, also as root: SQLite makes the path of its files absolute and walks it, and no other account may
        # enter the home. Postgres and Valkey can be started inside their directory instead.
        account=Account(),
        stop_signal=signal.SIGTERM,
        url=url,
        check=lambda: heartbeat.listen(url, timeout_s=5),
        # Two lines a request otherwise.
        variables={"RUST_LOG": "warn", "NO_COLOR": "1", "ANONYMIZED_TELEMETRY": "False"},
        required=False,
    )


def _command() -> tuple[str, ...]:
    found = importlib.util.find_spec(_BINDINGS)
    if found is None or not found.origin:
        raise SettingsError(f"The package {_PACKAGE} lacks its server, {_BINDINGS}: install it again.")
    return (sys.executable, "-I", "-S", str(_SERVE), str(Path(found.origin).parents[1]))
