"""Keyword candidates: which memories hold the words of a question, and in what order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.memory import keywords
from app.memory.keywords import candidates
from app.memory.update import update
from app.memory.wanted import Wanted
from tests.integration.memory.hands import do, keep, session
from tests.support import OWNER, sql


def ask(query: str, limit: int = 10, **wanted: Any) -> list[str]:
    """The ids of the candidates, best first."""
    found: list[tuple[str, float]] = do(candidates, Wanted(**{"owner": OWNER, **wanted}), query, limit)
    assert all(score > 0 for _, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    return [one for one, _ in found]


@pytest.fixture(params=["few", "many"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to choose what is ranked; with `many`, three memories are many."""
    if request.param == "many":
        monkeypatch.setattr(keywords, "_FEW", 3)
    return str(request.param)


FILLER = [f"Nothing of note happened on day {n} of the voyage." for n in range(8)]


def test_a_memory_with_more_of_the_words_comes_first(way: str) -> None:
    keep(*FILLER)
    one, both = keep("The parrot speaks.", "The parrot sleeps on the mast.")
    assert ask("mast parrot") == [both, one]


def test_a_rare_word_counts_for_more_than_common_ones(way: str) -> None:
    keep(*FILLER)
    rare, common = keep("The cook hid the rum.", "A note about another voyage and its day.")
    assert ask("rum note")[0] == rare
    assert common in ask("rum note")


def test_a_word_counts_for_more_in_a_short_text_and_where_it_is_repeated(way: str) -> None:
    keep(*FILLER)
    long, short, twice = keep(
        "An anchor, of which there is so much to tell: iron, rust, chain, cable, hawse, flukes, stock, ring and shank.",
        "An anchor.",
        "An anchor is an anchor.",
    )
    assert ask("anchor") == [twice, short, long]


def test_words_are_found_in_their_other_forms_and_stop_words_find_nothing(way: str) -> None:
    keep(*FILLER)
    (sailing,) = keep("They were sailing the ships.")
    assert ask("sail a ship") == [sailing]
    assert ask("who is it that they were") == []
    assert ask("") == []


@pytest.mark.parametrize(
    "query",
    [
        "parrot & !mast",
        "'parrot' | (",
        "parrot:*A <->",
        "\\'parrot\\",
        "parrot'' OR 1=1; --",
        'say "parrot',
        "parrot :q0",
    ],
)
def test_nothing_in_a_question_is_an_operator(way: str, query: str) -> None:
    keep(*FILLER)
    (parrot,) = keep("The parrot is on the mast.")
    assert ask(query)[0] == parrot


def test_a_lexeme_of_quotes_and_backslashes_is_found(way: str) -> None:
    keep(*FILLER)
    (path,) = keep(r"It is at https://example.org/o'brien\logs%20(1)?a='b'&c:d")
    assert ask(r"https://example.org/o'brien\logs%20(1)?a='b'&c:d")[0] == path


def test_a_long_question_is_answered_by_what_it_says_most_often(way: str) -> None:
    keep(*FILLER)
    (wanted,) = keep("The zanzibar lantern.")
    filling = " ".join(f"word{n}" for n in range(1000))
    assert ask(f"{filling} zanzibar {filling[:4000]} zanzibar zanzibar"[:15_000]) == [wanted]


def test_text_without_spaces_between_words_is_found_by_a_part_of_it(way: str) -> None:
    keep(*FILLER)
    chinese, japanese, _ = keep(
        "我们每天晚上两点备份数据库。", "データベースは毎晩二時にバックアップされます。", "今天的天气很好。"
    )
    assert ask("数据库什么时候备份？")[0] == chinese
    assert ask("バックアップはいつですか")[0] == japanese


def test_only_what_is_wanted_is_found(way: str) -> None:
    keep(*FILLER)
    talk = session()
    (hers,) = keep("The parrot of another owner.", owner="grace")
    (plain,) = keep("The parrot.")
    (scoped,) = keep("The parrot in a talk.", session_id=talk, metadata={"ship": "Hispaniola"})
    (expired,) = keep("The parrot of old.")
    (merged,) = keep("The parrot once more.")
    sql("UPDATE memory SET expires_at = :then WHERE id = :id", then=datetime.now(UTC) - timedelta(days=1), id=expired)
    sql("UPDATE memory SET status = 'merged', replaced_by = :by WHERE id = :id", by=plain, id=merged)
    assert set(ask("parrot")) == {plain, scoped}
    assert ask("parrot", owner="grace") == [hers]
    assert ask("parrot", owner="nobody") == []
    assert ask("parrot", session_id=talk) == [scoped]
    assert ask("parrot", filter={"ship": "Hispaniola"}) == [scoped]
    assert ask("parrot", memory_type="working") == []
    assert set(ask("parrot", expired=True, status=None)) == {plain, scoped, expired, merged}


def test_a_changed_text_is_found_by_its_new_words(way: str) -> None:
    keep(*FILLER)
    (one,) = keep("The parrot.")
    do(update, OWNER, one, {"content": "The monkey."})
    assert ask("parrot") == []
    assert ask("monkey") == [one]


def _fill(number: int) -> None:
    """Many memories, each with a word of its own, a word in two of them, a word in three, and so on to ten."""
    sql(
        """
        INSERT INTO memory (id, owner, memory_type, content, content_sha256, keywords)
        SELECT 'm' || n, :owner, 'semantic', content, sha256(content::bytea), to_tsvector('english', content)
        FROM generate_series(1, :number) n, LATERAL (
          SELECT 'own' || n || ' ' || string_agg('every' || k || 'th', ' ') AS content
          FROM generate_series(2, 10) k WHERE n % k = 0
        ) made
        WHERE content IS NOT NULL
        """,
        owner=OWNER,
        number=number,
    )


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_among_many_those_with_several_common_words_are_found_though_not_all_are_read(
    analyzed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keywords, "_common", keywords._Common())
    _fill(6000)
    if analyzed:
        sql("ANALYZE memory")
    read = _spy(monkeypatch)
    query = "every7th every8th every9th every10th"
    # Only these two hold all four.
    assert {"m2520", "m5040"} <= set(ask(query, 30))
    assert len(read) == 1
    assert all("&" in one for one in read[0])


def test_among_many_a_word_that_all_hold_does_not_hide_the_one_that_one_holds() -> None:
    _fill(6000)
    sql("ANALYZE memory")
    found = ask("every2th own2500 every3th", 20)
    assert found[0] == "m2500"
    # Others fit less, and there are enough of them.
    assert len(found) == 20


def _spy(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is read, each time."""
    seen: list[list[str]] = []
    ranked = keywords._ranked

    def spy(*args: Any) -> Any:
        seen.append(list(args[5]))
        return ranked(*args)

    monkeypatch.setattr(keywords, "_ranked", spy)
    return seen
