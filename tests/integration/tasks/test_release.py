"""Release: children start when their last parent succeeded, and are skipped when one did not."""

from __future__ import annotations

import random
from functools import partial

import pytest

from app.db import transaction
from app.queues import ADMIT
from app.tasks import recover
from app.tasks.cancel import cancel
from app.tasks.finish import finish
from app.tasks.submit import submit
from tests.support import (
    FAILED,
    OWNER,
    SUCCEEDED,
    Aside,
    a_task,
    employ,
    empty_redis,
    end,
    envelopes,
    eventually,
    kinds,
    let_in,
    post,
    post_one,
    row,
    running,
    scalar,
    sql,
    start,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def succeed(*ids: str) -> None:
    for task_id in ids:
        assert end((start(task_id), SUCCEEDED))


def runnable(*ids: str) -> list[str]:
    """Those of `ids` that are admitted now."""
    let_in()
    return [i for i in ids if status(i) == "queued"]


@pytest.fixture(autouse=True)
def _worker(clawq: pytest.MonkeyPatch) -> None:
    employ()


def test_a_child_waits_for_all_its_parents() -> None:
    a, b = post(a_task(), a_task())
    child = post_one(dependencies=[a, b])
    succeed(a)
    assert runnable(child) == []
    empty_redis()
    succeed(b)
    assert envelopes("gateway") == [(ADMIT, [])], "the last parent's end rings for it at once"
    assert runnable(child) == [child]


def test_a_diamond_joins_once() -> None:
    top = post_one()
    left, right = post(*[a_task(dependencies=[top])] * 2)
    bottom = post_one(dependencies=[left, right])
    succeed(top, left)
    assert runnable(bottom) == []
    succeed(right)
    assert runnable(bottom) == [bottom]
    assert scalar("SELECT count(*) FROM edges") == 0


def test_an_n_shape_holds_up_nobody_more_than_it_must() -> None:
    a, b = post(a_task(), a_task())
    only_a = post_one(dependencies=[a])
    both = post_one(dependencies=[a, b])
    succeed(a)
    assert runnable(only_a, both) == [only_a]
    succeed(b)
    assert runnable(both) == [both]


def test_a_parent_that_is_tried_again_still_holds_its_children() -> None:
    parent = running(max_attempts=2)
    child = post_one(dependencies=[parent.id])
    end((parent, FAILED))
    assert (status(parent.id), status(child), row(child).deps_left) == ("pending", "pending", 1)
    succeed(parent.id)
    assert runnable(child) == [child]


def test_a_parent_that_fails_for_good_skips_everything_below_it() -> None:
    parent, other = running(), running()
    child = post_one(dependencies=[parent.id, other.id])
    grandchild = post_one(dependencies=[child])
    leaf = post_one(dependencies=[grandchild, other.id])
    apart = post_one(dependencies=[other.id])
    end((parent, FAILED))
    assert [status(i) for i in (child, grandchild, leaf, apart)] == ["skipped"] * 3 + ["pending"]
    for skipped, cause in ((child, parent.id), (grandchild, child), (leaf, grandchild)):
        assert kinds(skipped) == ["accepted", "skipped"]
        assert row(skipped).error == f"Parent {cause} did not succeed."
        assert row(skipped).completed_at
    end((other, SUCCEEDED))
    assert runnable(child, leaf, apart) == [apart]
    assert status(child) == "skipped"


def test_every_way_not_to_succeed_skips_the_children() -> None:
    cancelled, expired, stopped = post(a_task(), a_task(), a_task())
    lost = running()
    children = [post_one(dependencies=[p]) for p in (cancelled, expired, stopped, lost.id)]
    with transaction() as db:
        cancel(db, cancelled)
    sql("UPDATE tasks SET deadline = now() WHERE id = :id", id=expired)
    sql("UPDATE tasks SET lease_until = now() - interval '1 s', infra_failures = 2 WHERE id = :id", id=lost.id)
    with transaction() as db:
        recover.expire(db)
        recover.take_back(db)
    claim = start(stopped)
    with transaction() as db:
        cancel(db, stopped)
    end((claim, FAILED))
    assert [status(i) for i in children] == ["skipped"] * 4


def test_two_parents_that_end_together_release_their_child_once() -> None:
    for _ in range(25):
        parents = post(*[a_task()] * 2)
        child = post_one(dependencies=parents)
        let_in()
        claims = take(*parents)
        assert together(*(partial(end, (claim, SUCCEEDED)) for claim in claims)) == [{c.id} for c in claims]
        assert (row(child).deps_left, status(child)) == (0, "pending")
        assert runnable(child) == [child]


def test_parents_that_end_together_one_way_and_the_other_skip_their_child_once() -> None:
    for _ in range(15):
        parents = post(*[a_task()] * 3)
        child = post_one(dependencies=parents)
        grandchild = post_one(dependencies=[child, parents[0]])
        let_in()
        outcomes = random.sample([SUCCEEDED, FAILED, FAILED], 3)
        ended = together(*(partial(end, pair) for pair in zip(take(*parents), outcomes, strict=True)))
        assert all(isinstance(e, set) for e in ended), ended
        assert (status(child), status(grandchild)) == ("skipped", "skipped")
        assert kinds(child) == ["accepted", "skipped"]
        assert kinds(grandchild) == ["accepted", "skipped"]


def test_a_child_added_while_its_parent_ends_is_never_forgotten() -> None:
    for trial in range(30):
        parent = running()
        outcome = SUCCEEDED if trial % 2 else FAILED
        added, ended = together(
            partial(post_one, dependencies=[parent.id]), partial(end, (parent, outcome))
        )  # fmt: skip
        assert ended == {parent.id}
        if isinstance(added, Exception):
            assert outcome is FAILED, "a child of a success is always welcome"
            continue
        expected = "pending" if outcome is SUCCEEDED else "skipped"
        assert (status(added), row(added).deps_left == 0) == (expected, outcome is SUCCEEDED)


def test_a_grandchild_added_while_its_parent_is_skipped_is_skipped_too() -> None:
    root = running()
    child = post_one(dependencies=[root.id])
    with transaction() as db:
        (grandchild,) = submit(db, OWNER, [a_task(dependencies=[child])])
        (leaf,) = submit(db, OWNER, [a_task(dependencies=[grandchild])])
        ending = Aside(lambda other: finish(other, [(root, FAILED)]))
        eventually(ending.is_blocked)
    ending.join()
    assert [status(i) for i in (child, grandchild, leaf)] == ["skipped"] * 3


def test_a_wide_fan_out_is_released_in_one_go() -> None:
    parent = running()
    children = post(*[a_task(dependencies=[parent.id])] * 300)
    end((parent, SUCCEEDED))
    assert scalar("SELECT count(*) FROM tasks WHERE deps_left = 0 AND status = 'pending'") == len(children)


def test_a_long_chain_is_skipped_to_its_end() -> None:
    parent = running()
    ids = [parent.id]
    for _ in range(60):
        ids.append(post_one(dependencies=[ids[-1]]))
    end((parent, FAILED))
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'skipped'") == 60
