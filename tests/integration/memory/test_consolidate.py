"""Consolidating: of memories that say nearly the same one stands, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from app.memory import consolidate as module
from app.memory.consolidate import consolidate
from app.memory.find import get
from app.memory.update import update
from app.memory.wanted import Wanted
from tests.integration.memory.hands import catch_up, check, do, keep, look, row, texts
from tests.support import OWNER, scalar, sql

TEXT = "the quick brown fox jumps over the lazy dog and runs away into the deep dark forest at night"


def test_the_most_important_one_stands_and_the_others_are_linked() -> None:
    keep(TEXT, importance=0.3)
    (best,) = keep(TEXT + ".", importance=0.8)
    keep(TEXT + "!", importance=0.1)
    keep("something else entirely")
    catch_up()
    done = do(consolidate, Wanted(owner=OWNER))
    (group,) = done.groups
    assert (group.kept, len(group.merged), done.compared, done.more) == (best, 2, 4, False)
    assert group.similarity >= 0.95
    for merged in group.merged:
        assert (row(merged).status, row(merged).replaced_by) == ("merged", best)
        assert do(get, OWNER, merged).content.startswith(TEXT)
    catch_up()
    assert len([text for text in texts(look("quick brown fox")) if text.startswith(TEXT)]) == 1
    assert check().differences == 0
    assert do(consolidate, Wanted(owner=OWNER)).groups == []


def test_a_dry_run_changes_nothing() -> None:
    keep(TEXT, TEXT + ".")
    catch_up()
    assert len(do(consolidate, Wanted(owner=OWNER), dry_run=True).groups) == 1
    assert scalar("SELECT count(*) FROM memory WHERE status = 'active'") == 2


def test_scopes_and_owners_are_never_mixed() -> None:
    keep(TEXT)
    keep(TEXT + ".", user_id="u")
    keep(TEXT + "!", memory_type="episodic")
    keep(TEXT + "?", owner="grace")
    catch_up()
    assert do(consolidate, Wanted(owner=OWNER)).groups == []
    assert scalar("SELECT count(*) FROM memory WHERE status = 'active'") == 4


def test_more_than_the_limit_is_told_of() -> None:
    keep("one", "two", "three")
    catch_up()
    done = do(consolidate, Wanted(owner=OWNER), limit=2)
    assert (done.compared, done.more) == (2, True)


def test_what_lasts_for_ever_is_not_merged_into_what_ends() -> None:
    ends = sql("SELECT now() + interval '1 hour'")[0][0]
    (kept,) = keep(TEXT, importance=0.9, expires_at=ends)
    keep(TEXT + ".")
    catch_up()
    assert do(consolidate, Wanted(owner=OWNER)).groups[0].kept == kept
    assert row(kept).expires_at is None


def test_what_has_changed_since_it_was_compared_is_not_merged(memory: pytest.MonkeyPatch) -> None:
    keep(TEXT, importance=0.9)
    (changed,) = keep(TEXT + ".")
    catch_up()
    plain = module.replace

    def overtaken(db: Any, *args: Any, **kwargs: Any) -> Any:
        do(update, OWNER, changed, {"content": "the opposite"})
        return plain(db, *args, **kwargs)

    memory.setattr(module, "replace", overtaken)
    do(consolidate, Wanted(owner=OWNER))
    assert (row(changed).status, row(changed).content) == ("active", "the opposite")
