"""Artifacts as they arrive at the worker, from a supervisor and from one that is not ours any more."""

from __future__ import annotations

import gc
import json
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.tasks.artifacts import MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, MAX_ARTIFACTS_BYTES
from workers.sandbox.artifacts import Basket
from workers.sandbox.frames import CHUNK, DONE, FILE, FrameError


@pytest.fixture
def basket() -> Iterator[Basket]:
    basket = Basket()
    yield basket
    basket.close()


def put(basket: Basket, name: str, content: bytes) -> None:
    basket.hear(FILE, json.dumps({"name": name, "size": len(content)}).encode())
    for start in range(0, len(content), 1 << 16):
        basket.hear(CHUNK, content[start : start + (1 << 16)])


def done(basket: Basket, *left: str) -> None:
    basket.hear(DONE, json.dumps({"left": left}).encode())


def test_what_was_sent_can_be_read_in_any_order(basket: Basket) -> None:
    contents = {"a": b"x" * 300_000, "plots/ü 1.png": bytes(range(256)), "empty": b""}
    for name, content in contents.items():
        put(basket, name, content)
    done(basket, "link: it is not a regular file")
    assert basket.full
    assert {a.name: a.content.read() for a in reversed(basket.artifacts())} == contents
    assert [a.size for a in basket.artifacts()] == [300_000, 256, 0]
    first, second = basket.artifacts()[:2]
    first.content.seek(299_998)
    second.content.seek(254)
    assert (first.content.read(10), second.content.read(10)) == (b"xx", b"\xfe\xff")
    assert (second.content.seek(-1, 2), second.content.tell(), second.content.read()) == (255, 255, b"\xff")
    assert basket.left() == ("link: it is not a regular file",)


def test_one_that_did_not_arrive_whole_is_left_out_and_said(basket: Basket) -> None:
    put(basket, "whole", b"1")
    basket.hear(FILE, json.dumps({"name": "half", "size": 10}).encode())
    basket.hear(CHUNK, b"12345")
    assert [a.name for a in basket.artifacts()] == ["whole"]
    assert basket.left() == ("The artifacts did not arrive completely.",)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """What a full disk does to a write: an OSError, here EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_no_room(basket: Basket) -> None:
    done(basket, "link: it is not a regular file")
    assert basket.full
    assert basket.artifacts() == ()
    assert basket.left() == ("link: it is not a regular file", "The worker had no room for the artifacts.")


# While the file leaves memory; later; with the last few bytes, which a buffer would take until they are read.
@pytest.mark.parametrize("room", [100_000, 400_000, 500_000 - 1])
def test_a_worker_without_room_takes_the_rest_and_keeps_none(basket: Basket, room: int) -> None:
    with no_file_beyond(room):
        put(basket, "small", b"1" * 1000)
        put(basket, "big", b"2" * 498_999)
        basket.hear(FILE, json.dumps({"name": "last", "size": 1}).encode())
        basket.hear(CHUNK, b"3")
        assert_no_room(basket)


def test_a_worker_without_a_place_for_files_keeps_none(basket: Basket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(Path(__file__) / "nowhere"))
    put(basket, "big", b"1" * 500_000)
    put(basket, "small", b"1")
    assert_no_room(basket)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "x" * 256, "a\0b", "twice"], ids=ascii
)
def test_a_name_that_no_supervisor_sends_is_refused(basket: Basket, name: str) -> None:
    put(basket, "twice", b"1")
    with pytest.raises(FrameError):
        put(basket, name, b"1")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'"x"',
        b'{"name": "x"}',
        b'{"name": 1, "size": 1}',
        b'{"name": "x", "size": -1}',
        b'{"name": "x", "size": "1"}',
        json.dumps({"name": "x", "size": MAX_ARTIFACT_BYTES + 1}).encode(),
    ],
)
def test_nonsense_is_refused(basket: Basket, payload: bytes) -> None:
    with pytest.raises(FrameError):
        basket.hear(FILE, payload)


def test_more_than_was_announced_is_refused(basket: Basket) -> None:
    put(basket, "a", b"1")
    with pytest.raises(FrameError):
        basket.hear(CHUNK, b"2")


def test_the_bounds_hold_whoever_sends(basket: Basket) -> None:
    for number in range(MAX_ARTIFACTS_BYTES // MAX_ARTIFACT_BYTES):
        put(basket, str(number), bytes(MAX_ARTIFACT_BYTES))
    with pytest.raises(FrameError):
        put(basket, "one more byte", b"1")
    for number in range(MAX_ARTIFACTS - len(basket.artifacts())):
        put(basket, f"empty {number}", b"")
    with pytest.raises(FrameError):
        put(basket, "one more file", b"")


def test_sentences_are_cut_and_storable(basket: Basket) -> None:
    done(basket, *(["a\0\ud800" + "x" * 1000] * 100))
    assert len(basket.left()) == 20
    assert basket.left()[0].startswith("a\ufffd?x")
    assert len(basket.left()[0]) == 200


def test_the_contents_outlive_one_that_did_not_arrive(basket: Basket) -> None:
    put(basket, "whole", b"1")
    basket.hear(FILE, json.dumps({"name": "half", "size": 10}).encode())
    (whole,) = basket.artifacts()
    basket._artifacts.clear()
    gc.collect()
    assert whole.content.read() == b"1"
