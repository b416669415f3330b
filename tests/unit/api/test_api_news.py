"""News: who is woken, and how many may wait."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from api.news import News


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> News:
    """News without its thread."""
    monkeypatch.setattr(News, "_start", lambda self: None)
    return News(most=4)


def test_those_who_wait_for_a_task_are_woken_and_no_others(news: News) -> None:
    with news.watch("a", "ada") as first, news.watch("b", "ada") as second:
        assert first
        assert second
        news._wake(b'["a","c"]')
        assert first.is_set()
        assert not second.is_set()


def test_one_owner_takes_half_the_places_and_all_together_no_more_than_there_are(news: News) -> None:
    with news.watch("a", "ada"), news.watch("b", "ada"), news.watch("a", "ada") as third:
        assert third is None
        with news.watch("a", "bob") as first, news.watch("a", "bob"), news.watch("a", "eve") as fifth:
            assert first is not None
            assert fifth is None
    with news.watch("a", "ada") as again:
        assert isinstance(again, threading.Event)
    assert (news._waiters, dict(news._places)) == ({}, {})


def test_a_place_is_given_back_by_a_request_that_fails(news: News) -> None:
    for _ in range(3):
        with suppress(ZeroDivisionError), news.watch("a", "ada") as bell:
            assert bell is not None
            raise ZeroDivisionError


@pytest.mark.parametrize("data", [b"", b"nonsense", b"3", b"[[]]", b"\xff"])
def test_odd_news_wake_nobody_and_break_nothing(news: News, data: bytes) -> None:
    with news.watch("a", "ada") as bell:
        news._wake(data)
        assert bell
        assert not bell.is_set()


def test_a_thread_that_does_not_start_is_started_by_the_next_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    news, started = News(most=2), [False, True]

    def start(_: threading.Thread) -> None:
        if not started.pop(0):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError), news.watch("a", "ada"):
        pass
    with news.watch("a", "ada") as bell:
        assert bell is not None
    assert started == []
