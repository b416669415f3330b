"""Whom the engines run as. Postgres refuses to run as root, and nothing else of ours needs root either."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from app.errors import SettingsError

#: Accounts that exist for this purpose, best first.
_CANDIDATES = ("postgres", "nobody")

#: Where engines are copied to if the account cannot reach them where they are installed.
_SHELVES = (Path("/var/lib/clawq"), Path(tempfile.gettempdir()) / "clawq-engines")


@dataclass(frozen=True)
class Account:
    """Whom a server process runs as: `None` means ourselves."""

    uid: int | None = None
    gid: int | None = None

    @property
    def is_other(self) -> bool:
        return self.uid is not None

    @property
    def groups(self) -> list[int] | None:
        """The supplementary groups for `subprocess`: none of ours go along."""
        return [] if self.is_other else None


def choose_account(data: Path) -> Account:
    """The account for a server with this data directory: the directory's owner, which Postgres insists on.

    Raises:
        SettingsError: we are root, and this machine has no account to become.
    """
    if os.geteuid() != 0:
        return Account()
    if data.exists() and data.stat().st_uid != 0:
        return _owner(data)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise SettingsError("Postgres does not run as root and there is no account `nobody`: run clawq as another user.")


def _owner(data: Path) -> Account:
    found = data.stat()
    try:
        pwd.getpwuid(found.st_uid)
    except KeyError:
        raise SettingsError(
            f"{data} belongs to user {found.st_uid}, whom this machine does not know: chown it to one that it does."
        ) from None
    return Account(found.st_uid, found.st_gid)


def from_here(program: Path, account: Account) -> tuple[list[str], str]:
    """A command and the name it should use for the directory that it is started in.

    A dropped account cannot walk down to the directory if one above it is closed (such as /root), but it may
    stand in it and hold it open: the kernel follows /proc/self/fd without a look at what lies above. The
    program itself starts in /, for Postgres 15 complains if it does not find its way back to where it started.
    """
    if not account.is_other:
        return [str(program)], "."
    return ["/bin/sh", "-c", 'exec 9<. && cd / && exec "$@"', "sh", str(program)], "/proc/self/fd/9"


def run_as(account: Account, argv: list[str], *, cwd: Path, timeout_s: float) -> CompletedProcess[str]:
    """Run a program of an engine to its end, in an environment of its own.

    Raises:
        OSError: the account cannot run it.
        subprocess.TimeoutExpired: it took too long.
    """
    return subprocess.run(
        argv,
        cwd=cwd,
        env=engine_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups,
    )


def engine_env() -> dict[str, str]:
    """What an engine's programs get to see: PGOPTIONS and the like of the user's shell are not among it."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def answer(argv: list[str], account: Account) -> str | None:
    """What the program prints when run by the account, or None if the account cannot run it."""
    try:
        done = run_as(account, argv, cwd=Path("/"), timeout_s=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def shelve(trees: list[Path], root: Path, label: str) -> list[Path]:
    """Copy `trees`, keeping their layout below `root`, to places that every account can reach.

    Returns:
        The copies of `root`, best first; the caller tries them, for a place can forbid execution.
    """
    copies = []
    for shelf in _SHELVES:
        try:
            copies.append(_copy(trees, root, _own_shelf(shelf) / label))
        except OSError:
            continue
    return copies


def _own_shelf(shelf: Path) -> Path:
    shelf.mkdir(mode=0o755, exist_ok=True)
    found = shelf.lstat()
    # In a shared directory such as /tmp somebody else may have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{shelf} is not ours")
    shelf.chmod(0o755)
    return shelf


def _copy(trees: list[Path], root: Path, target: Path) -> Path:
    if target.exists():
        return target
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for tree in trees:
            shutil.copytree(tree, building / tree.relative_to(root), symlinks=True)
        _open_to_all(building)
        try:
            building.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _open_to_all(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
