"""What arrives as artifacts is checked again: a program that broke out could send anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from workers.sandbox.artifacts import BYTES, FILE_BYTES, FILES, Basket
from workers.sandbox.frames import CHUNK, DONE, FILE, FrameError


@pytest.fixture
def basket() -> Iterator[Basket]:
    basket = Basket()
    yield basket
    basket.close()


def begin(basket: Basket, name: Any, size: Any, **more: Any) -> None:
    basket.hear(FILE, json.dumps({"name": name, "size": size, **more}).encode())


def test_files_arrive_with_their_contents(basket: Basket) -> None:
    begin(basket, "a", 3)
    basket.hear(CHUNK, b"ab")
    basket.hear(CHUNK, b"c")
    begin(basket, "d/empty", 0)
    assert not basket.full
    basket.hear(DONE, b'{"left": ["b: too large"]}')
    assert basket.full
    assert [(artifact.name, artifact.read()) for artifact in basket.artifacts()] == [("a", b"abc"), ("d/empty", b"")]
    assert basket.left() == ("b: too large",)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0", "x" * 256, "\ud800", 7, None, ["a"]],
)
def test_a_name_that_is_none_is_refused(basket: Basket, name: Any) -> None:
    with pytest.raises(FrameError):
        begin(basket, name, 0)


@pytest.mark.parametrize("size", [-1, FILE_BYTES + 1, "1", None, 0.5, True])
def test_a_size_that_is_not_allowed_is_refused(basket: Basket, size: Any) -> None:
    with pytest.raises(FrameError):
        begin(basket, "a", size)


def test_one_file_more_than_there_may_be_is_refused(basket: Basket) -> None:
    for number in range(FILES):
        begin(basket, str(number), 0)
    with pytest.raises(FrameError):
        begin(basket, "more", 0)


def test_one_byte_more_than_there_may_be_is_refused(basket: Basket) -> None:
    for number in range(BYTES // FILE_BYTES):
        begin(basket, str(number), FILE_BYTES)
        for _ in range(FILE_BYTES >> 20):
            basket.hear(CHUNK, bytes(1 << 20))
    with pytest.raises(FrameError):
        begin(basket, "more", 1)


def test_the_same_name_twice_a_file_within_a_file_and_more_bytes_than_announced_are_refused(basket: Basket) -> None:
    with pytest.raises(FrameError):
        basket.hear(CHUNK, b"x")
    begin(basket, "a", 1)
    with pytest.raises(FrameError):
        basket.hear(CHUNK, b"xy")
    with pytest.raises(FrameError):
        begin(basket, "b", 1)
    basket.hear(CHUNK, b"x")
    with pytest.raises(FrameError):
        begin(basket, "a", 1)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"null", b"{}", b'{"left": 1}', b'{"left": null}', b"\xff", b"[" * 9999]
)
@pytest.mark.parametrize("kind", [FILE, DONE])
def test_what_is_no_head_is_refused(basket: Basket, kind: bytes, payload: bytes) -> None:
    with pytest.raises(FrameError):
        basket.hear(kind, payload)


def test_what_did_not_arrive_whole_is_no_artifact(basket: Basket) -> None:
    begin(basket, "a", 1)
    basket.hear(CHUNK, b"x")
    begin(basket, "b", 2)
    basket.hear(CHUNK, b"x")
    basket.hear(DONE, b'{"left": []}')
    assert [artifact.name for artifact in basket.artifacts()] == ["a"]
    assert basket.left() == ("The artifacts did not arrive completely.",)


def test_sentences_are_few_short_and_storable(basket: Basket) -> None:
    basket.hear(DONE, json.dumps({"left": ["\0\ud800" + "x" * 1000] * 1000}).encode())
    assert len(basket.left()) == 20
    assert basket.left()[0].startswith("\ufffd?xx")
    assert max(map(len, basket.left())) <= 200
