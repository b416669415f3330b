"""The embedder `onnx` with small models: pooling, batches, names, and what is said of files that do not fit."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.embeddings.base import Unembeddable
from app.embeddings.choose import check
from app.embeddings.onnx import Onnx
from app.errors import SettingsError
from tests.integration.embeddings.models import WORDS, make_model, make_tokenizer, table
from tests.support import together


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_model(tmp_path)
    make_tokenizer(tmp_path)
    return tmp_path


def mean(*words: str, dimensions: int = 8) -> Any:
    """The vector of a text of these words, worked out by hand."""
    row = table(dimensions)[[WORDS.index(word) for word in words]].mean(axis=0)
    return row / np.linalg.norm(row)


def test_a_vector_is_the_mean_of_its_tokens_and_of_nothing_that_fills_up(directory: Path) -> None:
    made = Onnx(directory)
    rows = made.embed(["cat", "cat dog tax dog unheard", ""])
    assert np.allclose(rows[0], mean("[CLS]", "cat", "[SEP]"), atol=1e-6)
    assert np.allclose(rows[1], mean("[CLS]", "cat", "dog", "tax", "dog", "[UNK]", "[SEP]"), atol=1e-6)
    assert np.allclose(rows[2], mean("[CLS]", "[SEP]"), atol=1e-6)
    assert rows.dtype == np.float32
    assert made.dimensions == 8
    check(made)


def test_a_vector_does_not_depend_on_the_company_of_its_text(directory: Path) -> None:
    made = Onnx(directory)
    texts = ["cat " * (at * 37 % 90) + "dog" for at in range(100)]
    assert np.allclose(made.embed(texts), np.concatenate([made.embed([text]) for text in texts]), atol=1e-6)
    assert made.embed([]).shape == (0, 8)


def test_texts_run_in_batches_of_like_length(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Onnx(directory)
    shapes = []
    run = made._run

    def watched(batch: list[list[int]]) -> Any:
        shapes.append((len(batch), min(map(len, batch)), max(map(len, batch))))
        return run(batch)

    monkeypatch.setattr(made, "_run", watched)
    made.embed(["cat " * (at * 31 % 70) for at in range(70)])
    assert shapes == [(32, 2, 33), (32, 34, 65), (6, 66, 71)]


def test_of_a_long_text_the_first_256_tokens_count(directory: Path) -> None:
    row = Onnx(directory).embed(["cat " * 254 + "dog " * 10_000])[0]
    assert np.allclose(row, mean("[CLS]", *["cat"] * 254, "[SEP]"), atol=1e-6)


def test_a_text_without_tokens_has_a_vector(directory: Path) -> None:
    make_tokenizer(directory, special=False)
    rows = Onnx(directory).embed(["", "dog"])
    assert rows[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert np.allclose(rows[1], mean("dog"), atol=1e-6)


@pytest.mark.parametrize("output", ["sentence_embedding", "embedding"])
def test_a_model_that_makes_vectors_of_texts_is_taken_at_its_word(directory: Path, output: str) -> None:
    make_model(directory, rank=2, output=output)
    assert np.allclose(Onnx(directory).embed(["dog cat"])[0], mean("dog"), atol=1e-6)


@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_a_model_may_do_without_types_of_tokens(directory: Path, kind: str) -> None:
    make_model(directory, inputs=("input_ids", "attention_mask"), kind=kind, output="anything")
    assert np.allclose(Onnx(directory).embed(["cat"])[0], mean("[CLS]", "cat", "[SEP]"), atol=1e-6)


def test_threads_share_one(directory: Path) -> None:
    made = Onnx(directory)
    texts = ["cat dog", "tax " * 50, "dog"]
    expected = made.embed(texts)
    for rows in together(*[lambda: made.embed(texts)] * 4):
        assert np.allclose(rows, expected, atol=1e-6)


def test_the_name_is_what_the_vectors_depend_on(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = Onnx(directory).name
    digest = hashlib.sha256((directory / "model.onnx").read_bytes()).hexdigest()
    assert name.startswith(f"onnx:{digest[:12]}:")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(directory, elsewhere)
    assert Onnx(elsewhere).name == name
    make_tokenizer(elsewhere, words=(*WORDS[:4], "dog", "cat", "tax"))
    assert Onnx(elsewhere).name != name
    make_model(directory, dimensions=9)
    assert Onnx(directory).name != name


def test_a_model_that_is_not_what_its_checksum_says_is_refused(directory: Path) -> None:
    digest = hashlib.sha256((directory / "model.onnx").read_bytes()).hexdigest()
    checksum = directory / "model.onnx.sha256"
    for right in (f"{digest}  model.onnx\n", digest.upper()):
        checksum.write_text(right)
        Onnx(directory)
    for wrong in (f"{'0' * 64}  model.onnx\n", "", "\xff\n"):
        checksum.write_text(wrong)
        with pytest.raises(SettingsError, match=r"not what model\.onnx\.sha256"):
            Onnx(directory)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing_or_broken_is_named(directory: Path, name: str) -> None:
    (directory / name).write_bytes(b"{}")
    with pytest.raises(SettingsError, match=f"{name} is no"):
        Onnx(directory)
    (directory / name).unlink()
    with pytest.raises(SettingsError, match=f"{name} is missing"):
        Onnx(directory)
    (directory / name).mkdir()
    with pytest.raises(SettingsError, match=f"{name} is missing"):
        Onnx(directory)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"inputs": ("input_ids", "pixels")}, "it takes input_ids"),
        ({"inputs": ("input_ids",)}, "it takes input_ids"),
        ({"inputs": ("input_ids", "attention_mask", "position_ids")}, "position_ids"),
        ({"rank": 1}, "none of them vectors"),
        ({"dimensions": 1537}, "1536 at most"),
        ({"positions": 255}, "cannot embed 256 tokens"),
    ],
)
def test_a_model_of_another_kind_is_refused(directory: Path, model: dict[str, Any], told: str) -> None:
    make_model(directory, **model)
    with pytest.raises(SettingsError, match=told):
        Onnx(directory)


def test_the_largest_vector_fits(directory: Path) -> None:
    make_model(directory, dimensions=1536, positions=256)
    check(Onnx(directory))


def test_a_text_with_tokens_that_the_model_does_not_know_is_unembeddable(directory: Path) -> None:
    make_tokenizer(directory, words=(*WORDS, "whale"))
    made = Onnx(directory)
    with pytest.raises(Unembeddable):
        made.embed(["cat", "whale"])
    assert np.allclose(made.embed(["cat"])[0], mean("[CLS]", "cat", "[SEP]"), atol=1e-6)
