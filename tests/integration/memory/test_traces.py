"""What forgetting leaves in Chroma's files, and what removes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.embeddings.choose import embedder
from app.local import serve_chroma, services
from app.memory import chroma, generations, index
from app.memory.forget import forget
from app.settings import settings
from benchmarks.texts import sentences
from tests.integration.memory.hands import catch_up, check, do, keep, look, texts
from tests.support import OWNER, sql
from tests.traces import traces

SECRET = (
    "the combination of the green safe in the cellar under the wooden stairs is seventeen forty two, and nobody but my "
    "sister and her lawyer may ever learn where our grandmother hid its only key when she sold the house by the lake"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a Chroma of the test's own lives."""
    return tmp_path / "own"


@pytest.fixture
def own_chroma(memory: pytest.MonkeyPatch, place: Path) -> Iterator[Any]:
    """Start that Chroma, or start it again; the process goes on with it. It writes graphs every thousand entries."""
    memory.setitem(chroma._HNSW, "sync_threshold", 1000)
    running: list[Any] = []

    def restart() -> None:
        index.close()
        while running:
            running.pop().__exit__(None, None, None)
        server = services.chroma(place)
        memory.setenv("VECTOR_DB_URL", server.__enter__())
        settings.cache_clear()
        running.append(server)

    yield restart
    while running:
        running.pop().__exit__(None, None, None)


def rebuild() -> None:
    do(generations.start, embedder())
    catch_up()
    sql("UPDATE memory_indexes SET activated_at = now() - interval '1 hour' WHERE status = 'retired'")
    catch_up()


# With few entries all is in Chroma's database, and no graph has been written to a file.
@pytest.mark.parametrize("others", [20, 1100])
def test_what_is_forgotten_is_in_no_file_after_a_rebuild_and_a_restart(
    own_chroma: Any, place: Path, others: int
) -> None:
    own_chroma()
    (secret,) = keep(SECRET)
    kept = keep(*sentences(others))
    catch_up()
    vector = embedder().embed([SECRET])[0]
    assert traces(place, secret, vector)
    assert not any(SECRET.encode() in path.read_bytes() for path in place.rglob("*") if path.is_file())
    do(forget, OWNER, [secret])
    catch_up()
    assert traces(place, secret, vector), "if Chroma forgot by itself, all of this would not be needed"
    rebuild()
    own_chroma()
    assert traces(place, secret, vector) == {}
    assert traces(place, kept[0], vector), "its neighbours are still there"
    assert (check().expected, check().differences) == (others, 0)
    assert texts(look(sentences(1)[0], mode="vector", limit=1)) == sentences(1)


def test_a_restart_alone_removes_no_living_collection(own_chroma: Any, place: Path) -> None:
    own_chroma()
    keep(*sentences(1100))
    catch_up()
    before = {path.name for path in (place / "chroma").iterdir() if path.is_dir()}
    assert before
    own_chroma()
    assert {path.name for path in (place / "chroma").iterdir() if path.is_dir()} == before
    assert check().differences == 0


def test_a_database_that_is_not_as_expected_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "01234567-89ab-4def-8123-456789abcdef").mkdir()
    (tmp_path / "notes").mkdir()
    assert serve_chroma.tidy(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as db:
        db.execute("CREATE TABLE something_else (id)")
    with pytest.raises(sqlite3.OperationalError):
        serve_chroma.tidy(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as db:
        db.execute("CREATE TABLE segments (id)")
    assert serve_chroma.tidy(tmp_path) == ["01234567-89ab-4def-8123-456789abcdef"]
    assert (tmp_path / "notes").exists()


def test_a_vector_is_found_wherever_it_lies(tmp_path: Path) -> None:
    vector = np.zeros(1536, dtype=np.float32)
    vector[::100] = np.linspace(0.1, 0.3, 16)
    (tmp_path / "file").write_bytes(b"odd" + (vector * np.float32(1.0000001)).tobytes() + b"\0")
    assert traces(tmp_path, "nobody", vector) == {"file": (0, 1)}
