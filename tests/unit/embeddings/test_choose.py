"""Which embedder the settings choose, and what is said of settings that choose none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.embeddings.base import EmbedderAway, EmbedderRefuses, fitted, unit
from app.embeddings.choose import check, embedder
from app.errors import SettingsError
from app.settings import settings
from tests.support import together


@pytest.fixture(autouse=True)
def _here(environment: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    (tmp_path / "home").mkdir()
    environment.chdir(tmp_path)
    return environment


class Made:
    """An embedder that answers as it is told."""

    name = "made"
    dimensions = 3
    at_hand = 0

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def embed(self, texts: Sequence[str]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_hash_is_the_default_and_needs_nothing() -> None:
    check(embedder())
    assert embedder().name == "hash-1:1536"


def test_threads_that_ask_together_share_one() -> None:
    first, *others = together(*[embedder] * 4)
    assert all(other is first for other in others)


def test_a_model_on_disk_needs_its_directory(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("CLAWQ_EMBEDDING_PROVIDER", "onnx")
    with pytest.raises(SettingsError, match="CLAWQ_EMBEDDING_MODEL_DIR"):
        embedder()
    environment.setenv("CLAWQ_EMBEDDING_MODEL_DIR", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(SettingsError, match=r"model\.onnx is missing"):
        embedder()


def test_a_service_is_chosen_without_being_asked(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CLAWQ_EMBEDDING_PROVIDER", "openai")
    environment.setenv("CLAWQ_EMBEDDING_DIMENSIONS", "256")
    chosen = embedder()
    assert (chosen.name, chosen.dimensions, chosen.at_hand) == ("openai:text-embedding-3-small:256", 256, 0)
    assert embedder() is chosen


def test_a_vector_of_another_length_is_a_matter_of_settings() -> None:
    check(Made(np.zeros((1, 3))))
    with pytest.raises(SettingsError, match="made 4 numbers"):
        check(Made(np.zeros((1, 4))))


def test_what_a_service_refuses_is_a_matter_of_settings_and_its_silence_is_not() -> None:
    with pytest.raises(SettingsError, match="the key"):
        check(Made(EmbedderRefuses("the key")))
    with pytest.raises(EmbedderAway):
        check(Made(EmbedderAway()))


def test_choosing_loads_no_library_that_makes_vectors() -> None:
    show = (
        "import sys, app.embeddings.choose; print([m for m in ('numpy', 'onnxruntime', 'httpx') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", show],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "[]"


def test_rows_become_of_unit_length_and_one_that_points_nowhere_becomes_an_axis() -> None:
    rows = unit(np.array([[3, 4], [0, 0], [1e-30, 0], [-3e38, 3e38]], dtype=np.float32))
    assert np.allclose(rows, [[0.6, 0.8], [1, 0], [1, 0], [-(0.5**0.5), 0.5**0.5]])


def test_a_name_that_is_too_long_ends_in_its_hash() -> None:
    assert fitted("short") == "short"
    names = {fitted("m" * 300 + end) for end in "ab"}
    assert [len(name) for name in names] == [255, 255]
