"""Searching: by meaning and by words, over what is indexed and what is not yet."""

from __future__ import annotations

from typing import Any

import pytest

from app.memory import dense, index, search
from app.memory.forget import forget
from app.memory.update import update
from app.settings import settings
from tests.integration.memory.hands import catch_up, do, keep, look, row, session, texts
from tests.support import OWNER, sql

FACTS = (
    "Ada prefers green tea in the morning.",
    "The deployment runs on three servers in Frankfurt.",
    "Backups are taken every night at two.",
    "Grace plays the violin.",
)


@pytest.mark.parametrize("known", [True, False], ids=["indexed", "not indexed yet"])
@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
def test_what_fits_comes_first(known: bool, mode: str) -> None:
    catch_up()
    keep(*FACTS)
    if known:
        catch_up()
    found = look("When are backups taken?", mode=mode)
    assert texts(found)[0] == FACTS[2]
    assert not found.degraded


def test_who_writes_can_read_at_once() -> None:
    catch_up()
    (memory_id,) = keep("tea")
    catch_up()
    do(update, OWNER, memory_id, {"content": "coffee"})
    assert texts(look("coffee", mode="vector")) == ["coffee"]
    do(forget, OWNER, [memory_id])
    assert texts(look("coffee")) == []


def test_a_narrow_question_is_answered_though_others_are_nearer() -> None:
    catch_up()
    keep(*(f"tea number {n} is good" for n in range(150)))
    (wanted,) = keep("tea is sometimes too hot for me", user_id="u")
    keep("tea number 7 is good", owner="grace")
    catch_up()
    found = look("tea number 7 is good", mode="vector", user_id="u")
    assert [hit.memory.id for hit in found.hits] == [wanted]
    assert len(look("tea number 7 is good", mode="vector", owner="grace").hits) == 1


def test_many_of_a_narrow_question_are_asked_for_in_the_index_own_words(memory: pytest.MonkeyPatch) -> None:
    memory.setattr(dense, "_FEW", 5)
    memory.setattr(index, "MOST_AT_ONCE", 20)
    catch_up()
    keep(*(f"tea number {n} is good" for n in range(150)))
    keep(*(f"tea is {n} times better than coffee" for n in range(30)), owner="grace", user_id="u")
    catch_up()
    found = look("tea number 7 is good", mode="vector", owner="grace", user_id="u", limit=30)
    assert len(found.hits) == 30
    assert {hit.memory.owner for hit in found.hits} == {"grace"}


def test_scopes_types_metadata_and_times_narrow_a_search() -> None:
    session()
    keep("tea one", memory_type="episodic", session_id="talk", metadata={"n": 1})
    keep("tea two", user_id="u", metadata={"n": 2})
    sql("UPDATE memory SET created_at = now() - interval '1 day' WHERE content = 'tea two'")
    assert texts(look("tea", memory_type="episodic")) == ["tea one"]
    assert texts(look("tea", session_id="talk")) == ["tea one"]
    assert texts(look("tea", user_id="u")) == ["tea two"]
    assert texts(look("tea", filter={"n": 2})) == ["tea two"]
    hour_ago = sql("SELECT now() - interval '1 hour'")[0][0]
    assert texts(look("tea", created_after=hour_ago)) == ["tea one"]
    assert texts(look("tea", created_before=hour_ago)) == ["tea two"]


def test_what_words_alone_have_found_is_weighed_by_meaning_too(memory: pytest.MonkeyPatch) -> None:
    memory.setattr(dense, "POOL", 5)
    catch_up()
    keep(*(f"green tea {n} green tea" for n in range(20)))
    keep("zanzibar has green tea in its far north, where nobody goes")
    catch_up()
    scores = {hit.memory.content[:8]: hit.score for hit in look("zanzibar green tea").hits}
    assert scores["zanzibar"].parts["cosine"] > 0


def test_uses_are_counted() -> None:
    (memory_id,) = keep("tea")
    assert look("tea").hits[0].memory.uses == 0
    assert look("tea").hits[0].memory.uses == 1
    assert sql("SELECT uses FROM memory_uses WHERE memory_id = :id", id=memory_id) == [(2,)]


def test_importance_weighs() -> None:
    keep("tea is mentioned here", importance=0.1)
    keep("tea is mentioned there", importance=0.9)
    assert texts(look("tea is mentioned")) == ["tea is mentioned there", "tea is mentioned here"]


def test_what_has_nothing_to_do_with_the_question_is_no_answer() -> None:
    catch_up()
    keep("tea")
    assert texts(look("zzz", mode="keyword")) == []


def test_without_an_index_words_answer_and_the_answer_says_so() -> None:
    keep(*FACTS)
    found = look("violin")
    assert texts(found) == [FACTS[3]]
    assert found.degraded_by == ["no_index"]


def test_while_chroma_is_away_words_and_kept_vectors_answer(memory: pytest.MonkeyPatch) -> None:
    catch_up()
    keep(*FACTS)
    catch_up()
    memory.setenv("VECTOR_DB_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    index.close()
    found = look("Who plays the violin?")
    assert texts(found)[0] == FACTS[3]
    assert found.degraded_by == ["index_away"]
    assert found.hits[0].score.parts["cosine"] > 0, "from the vector in Postgres"


def test_a_lost_collection_is_told_of_and_made_anew() -> None:
    catch_up()
    (memory_id,) = keep("tea")
    catch_up()
    index.drop(do(dense.active, OWNER).collection)
    assert look("tea").degraded_by == ["index_lost"]
    catch_up()
    assert look("tea").degraded_by == []
    assert row(memory_id).indexed_version == 1


def test_with_another_embedder_vectors_say_nothing_until_a_rebuild() -> None:
    catch_up()
    keep("tea")
    catch_up()
    sql("UPDATE memory_indexes SET embedder = 'another'")
    found = look("tea")
    assert found.degraded_by == ["embedder_changed"]
    assert texts(found) == ["tea"]


@pytest.mark.parametrize("mode", ["hybrid", "vector"])
def test_of_thousands_that_are_nearly_alike_each_is_found_by_its_own_text(mode: str) -> None:
    """A graph of neighbors leads to two thirds of such vectors alone."""
    contents = [f"memory number {n} of writer {n % 4}, written while others write" for n in range(1500)]
    catch_up()
    keep(*contents)
    catch_up()
    missed = [content for content in contents[::25] if texts(look(content, mode=mode, limit=1)) != [content]]
    assert missed == []


def test_what_is_indexed_while_the_index_is_asked_is_found(memory: pytest.MonkeyPatch) -> None:
    catch_up()
    keep("tea")
    plain = index.nearest

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        found = plain(*args, **kwargs)
        catch_up()
        return found

    memory.setattr(index, "nearest", overtaken)
    memory.setattr(dense, "same", lambda *_: [])
    memory.setattr(search, "_READ", 0)
    assert texts(look("tea", mode="vector")) == ["tea"]
