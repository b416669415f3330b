"""Soak: faults at random for as long as one likes, under a load that is bounded; then everything must hold."""

from __future__ import annotations

import os
import random
import secrets
import threading
import time

import pytest

from benchmarks import graphs
from tests.chaos.rig import END_SESSIONS, ENGINES, WORKERS, Rig
from tests.chaos.tasks import PROGRAM, Tasks

#: Read at import: fixtures hide the machine's settings from what they start.
SECONDS = float(os.environ.get("CLAWQ_SOAK_S", "120"))
SEED = int(os.environ.get("CLAWQ_SOAK_SEED") or secrets.randbelow(2**32))

OURS = ("api", "clock", *WORKERS)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 600), pytest.mark.usefixtures("sandbox")]


def test_random_faults_break_no_promise(rig: Rig, tasks: Tasks) -> None:
    print(f"\nCLAWQ_SOAK_SEED={SEED} CLAWQ_SOAK_S={SECONDS:.0f}")
    dice = random.Random(SEED)
    until = time.monotonic() + SECONDS
    with tasks.load(per_s=10):
        while time.monotonic() < until:
            work(tasks, dice)
            fault = dice.choice(FAULTS)
            print(f"{until - time.monotonic():6.1f} s left: {fault.__name__}")
            fault(rig, dice)
            wait(dice.uniform(0, 3))
        rig.heal()
    ended = tasks.settle(timeout=300)
    print(dict(ended))
    assert ended["succeeded"] > 0.8 * sum(ended.values())


def work(tasks: Tasks, dice: random.Random) -> None:
    """Programs, children of theirs, a workflow, and a cancel now and then."""
    tasks.flow(graphs.document(graphs.scattered(12, dice.randrange(2**32)), "sleep", lambda _: {"s": 0.1}))
    parent = tasks.post(task_type="python", payload={"code": PROGRAM, "args": [str(dice.uniform(0, 5))]})
    child = tasks.post(dependencies=[parent])
    tasks.post(dependencies=[parent, child])
    if dice.random() < 0.2:
        tasks.cancel(parent)


def kill_a_process(rig: Rig, dice: random.Random) -> None:
    rig.kill(dice.choice(OURS))


def kill_all_workers(rig: Rig, dice: random.Random) -> None:
    rig.kill(*WORKERS)


def stop_a_process(rig: Rig, dice: random.Random) -> None:
    with rig.paused(dice.choice((*OURS, *ENGINES))):
        wait(dice.uniform(0, 6))


def kill_an_engine(rig: Rig, dice: random.Random) -> None:
    engine = dice.choice(ENGINES)
    rig.kill(engine, restart=False)
    wait(dice.uniform(0, 3))
    rig.start_engine(engine)


def forget_redis(rig: Rig, dice: random.Random) -> None:
    with rig.redis() as redis:
        redis.flushall()


def break_redis_connections(rig: Rig, dice: random.Random) -> None:
    with rig.redis() as redis:
        for kind in ("normal", "pubsub"):
            redis.client_kill_filter(_type=kind, skipme=True)


def end_postgres_sessions(rig: Rig, dice: random.Random) -> None:
    rig.inside.sql(END_SESSIONS)


def cut_a_link(rig: Rig, dice: random.Random) -> None:
    rig.link(dice.choice(OURS), dice.choice(ENGINES)).cut()


def pause_a_link(rig: Rig, dice: random.Random) -> None:
    link = rig.link(dice.choice(OURS), dice.choice(ENGINES))
    link.pause()
    wait(dice.uniform(0, 6))
    link.mend()


def lose_a_commit(rig: Rig, dice: random.Random) -> None:
    link = rig.link(dice.choice(OURS), "postgres")
    # What is one statement commits without saying so.
    words = dice.choice([b"COMMIT", b"EXECUTE clawq_submit", b"EXECUTE clawq_claim"])
    link.trap(words, deliver=dice.random() < 0.5)
    wait(1)
    link.cut()
    link.mend()


def start_a_second_clock(rig: Rig, dice: random.Random) -> None:
    rig.second_clock()


def wait(seconds: float) -> None:
    """Let a fault last."""
    threading.Event().wait(seconds)


FAULTS = (
    kill_a_process,
    kill_all_workers,
    stop_a_process,
    kill_an_engine,
    forget_redis,
    break_redis_connections,
    end_postgres_sessions,
    cut_a_link,
    pause_a_link,
    lose_a_commit,
    start_a_second_clock,
)
