"""Chroma's server, started as a program of its own: first what it leaves on the disk is tidied up.

    python -I -S serve_chroma.py PACKAGES run --path DATA …

PACKAGES is the directory that holds its compiled half, which is all of the server: it is there in a tenth of a second
and 40 MB. `chroma run` imports the Python half first, which takes ten times as long and three times as much.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import sys
import uuid
from contextlib import closing
from pathlib import Path

_BINDINGS = "chromadb_rust_bindings"


def tidy(data: Path) -> list[str]:
    """Remove what deleted collections and entries have left: Chroma itself never does.

    The vectors of a deleted collection stay in a directory of its own, deleted rows in free pages of the database.

    Returns:
        The names of the directories that are gone.

    Raises:
        sqlite3.Error: the database is not what it used to be.
    """
    database = data / "chroma.sqlite3"
    if not database.exists():
        return []
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as db:
        used = {str(row[0]) for row in db.execute("SELECT id FROM segments")}
        if db.execute("PRAGMA freelist_count").fetchone()[0]:
            db.execute("VACUUM")
    left = [path for path in data.iterdir() if path.is_dir() and _is_uuid(path.name) and path.name not in used]
    for path in left:
        shutil.rmtree(path)
    return [path.name for path in left]


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def main(packages: str, *arguments: str) -> None:
    """Tidy up, then serve until a signal."""
    # A directory that was removed while it ran is made again, for its owner alone like the first one.
    os.umask(0o077)
    data = Path(arguments[arguments.index("--path") + 1])
    try:
        tidy(data)
    except (sqlite3.Error, OSError) as exc:
        sys.stderr.write(f"{data} was not tidied up: {exc}\n")
    sys.path.append(packages)
    importlib.import_module(_BINDINGS).cli(["chroma", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
