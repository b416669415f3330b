"""Files and directories that only their owner may read, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def private_dir(path: Path, *, uid: int | None = None, gid: int | None = None) -> Path:
    """Make a directory of mode 0700, owned by `uid`:`gid` if given. An existing one is tightened."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    if uid is not None and gid is not None:
        os.chown(path, uid, gid)
    return path


def write_private(path: Path, text: str, *, uid: int | None = None, gid: int | None = None) -> None:
    """Replace the file with `text`, mode 0600, so that a reader sees all of it or the old text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if uid is not None and gid is not None:
                os.fchown(file.fileno(), uid, gid)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace the file with the object, mode 0600."""
    write_private(path, json.dumps(value))


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file, or an empty one if the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
