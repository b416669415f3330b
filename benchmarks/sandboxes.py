"""Programs in sandboxes, beside containers that are started by hand for each, in turns on the same engine.

Three measurements: one program at a time, a hundred at once, and what the worker weighs meanwhile. For a quick look,
CLAWQ_BENCH_ROUNDS makes the first shorter.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from app.settings import Settings
from benchmarks.aims import Aim, show
from benchmarks.costs import measured
from benchmarks.oneshot import CODE, by_command, by_sdk, many_by_sdk
from benchmarks.pool import PATIENCE_S, QUIET_S, Pool
from benchmarks.setting import Stack, all_ended, stack, until
from workers.sandbox.docker import DockerSandbox, connect
from workers.sandbox.profile import HOST, INSTANCE, STACK, WORKER, Profile
from workers.sandbox.spec import Callbacks, SandboxSpec

ROUNDS = int(os.environ.get("CLAWQ_BENCH_ROUNDS", "30"))
#: A burst: so many tasks at once, on so many slots, with so many containers kept ready.
BURST, SLOTS, READY, BURSTS = 100, 32, 8, 5
PARALLEL = (2, 3, 4, 5)
#: Slots of the execution worker in the Procfile.
_USUAL_SLOTS = 8
_TASK = {"task_type": "python", "payload": {"code": CODE}}
#: Says a word, so that one can see that it runs, and stays.
_STAY = "import time\nprint('here')\ntime.sleep(100)"
_STAYER = {"task_type": "python", "payload": {"code": _STAY, "limits": {"wall_s": 120}}}
_TALKER = {"task_type": "python", "payload": {"code": "for n in range(200): print('some output', n)"}}


# One program at a time


def through_stack(where: Stack) -> tuple[float, float]:
    """One task on an idle stack. Returns milliseconds: from its claim to its end; from POST to `succeeded`.

    The claim and the end are by Postgres' clock, now() of the two statements that write them: tasks.started_at is set
    by the one that claims, tasks.completed_at by the one that writes the result.
    """
    client = where.client()
    began = time.perf_counter()
    task = client.call("POST", "/api/v1/tasks", _TASK)
    ended = client.call("GET", f"/api/v1/tasks/{task['id']}?wait=30")
    seconds = time.perf_counter() - began
    if ended["status"] != "succeeded" or not ended["result"]["warm"]:
        raise RuntimeError(f"not a warm run that succeeded: {ended}")
    look = "SELECT extract(epoch FROM completed_at - started_at)::float8 FROM tasks WHERE id = '{}'"
    ((inside,),) = where.sql(look.format(task["id"]))
    return inside * 1000, seconds * 1000


def in_process(sandbox: DockerSandbox) -> tuple[float, float]:
    """A run in a container that waits. Returns milliseconds from the call: to the first byte; to the verdict."""
    first: list[float] = []
    spec = SandboxSpec(name="bench", language="python", code=CODE)
    callbacks = Callbacks(output=lambda _stream, _text: first.append(time.perf_counter()))
    began = time.perf_counter()
    result = sandbox.run(spec, stop=threading.Event(), callbacks=callbacks)
    ended = time.perf_counter()
    result.close()
    if result.verdict != "ok" or not result.warm:
        raise RuntimeError(f"not a warm run that went well: {result}")
    return (first[0] - began) * 1000, (ended - began) * 1000


def one_at_a_time(api: Any, image: str) -> dict[str, list[float]]:
    """Milliseconds by what was measured, each in turn while nothing else is done."""
    found: dict[str, list[float]] = {}

    def note(**times: float) -> None:
        for what, ms in times.items():
            found.setdefault(what, []).append(ms)

    labels = {STACK: f"bench-{os.getpid()}", HOST: "bench", WORKER: "bench", INSTANCE: "bench"}
    sandbox = DockerSandbox(connect(), images={"python": image}, labels=labels, warm={Profile(image=image): 2})
    with closing(sandbox), stack() as where:
        sandbox.open()
        pool = Pool(where, api, Settings().sandbox_warm["python"])

        def quiet() -> None:
            pool.settle()
            until(lambda: sandbox.waiting() == 2)
            time.sleep(QUIET_S)

        for number in range(-2, ROUNDS):
            quiet()
            command = by_command(api, image)
            quiet()
            sdk, sdk_output = by_sdk(api, image)
            quiet()
            claimed, posted = through_stack(where)
            quiet()
            first, verdict = in_process(sandbox)
            if number >= 0:
                note(command=command, sdk=sdk, sdk_output=sdk_output)
                note(claimed=claimed, posted=posted, first=first, verdict=verdict)
    return found


# A hundred at once


def burst(where: Stack, tasks: Sequence[dict[str, Any]]) -> float:
    """Post tasks in one batch. Returns seconds until all have ended."""
    client = where.client()
    began = time.perf_counter()
    client.call("POST", "/api/v1/tasks/batch", {"tasks": tasks})
    # Takes many seconds: more looks would only be load.
    until(all_ended(where.database_url), PATIENCE_S, every_s=0.05)
    return time.perf_counter() - began


def at_once(where: Stack, pool: Pool, api: Any, image: str) -> tuple[int, list[tuple[float, float]], dict[str, float]]:
    """The best number of one-shot runs at once; seconds of each pair of bursts, ours and one-shot; CPU ms a task."""

    def by_hand(parallel: int) -> float:
        pool.settle()
        return many_by_sdk(api, image, BURST, parallel)

    best = min(PARALLEL, key=by_hand)
    pairs, costs = [], []
    for _ in range(BURSTS):
        pool.settle()
        seconds, spent = measured(_ours(where), lambda: burst(where, [_TASK] * BURST))
        pairs.append((seconds, by_hand(best)))
        costs.append({name: cpu_s * 1000 / BURST for name, cpu_s in spent.items()})
    return best, pairs, {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def _ours(where: Stack) -> dict[str, int]:
    return {name: where.pids[name] for name in ("api", "gateway", "execution", "clock", "postgres", "redis")}


# What the worker weighs


def weights(where: Stack, pool: Pool) -> dict[str, float]:
    """MiB of the worker: after 100 tasks, after 1,000, and with SLOTS programs that run at the same time."""
    found = {}
    for name, more in (("after 100", 100), ("after 1,000", 900)):
        burst(where, [_TALKER] * more)
        pool.settle()
        found[name] = pool.rss_mb()
    posted = where.client().call("POST", "/api/v1/tasks/batch", {"tasks": [_STAYER] * SLOTS})
    ids = ", ".join(f"'{item['id']}'" for item in posted["items"])
    here = f"SELECT count(DISTINCT task_id) FROM events WHERE kind = 'log' AND task_id IN ({ids})"  # noqa: S608
    until(lambda: where.sql(here) == [(SLOTS,)])
    found["running"] = pool.rss_mb()
    # The other connection may have been idle for too long.
    client = where.client()
    for item in posted["items"]:
        client.call("POST", f"/api/v1/tasks/{item['id']}/cancel", {})
    until(all_ended(where.database_url))
    return found


# What is shown


def show_times(found: dict[str, list[float]]) -> list[Aim]:
    """Print what one program takes. Returns what is aimed at."""
    names = {
        "command": "(a) `docker run --rm`, all of it",
        "sdk": "(b) one container through the SDK, all of it",
        "sdk_output": "(b) up to the end of its output",
        "claimed": "(c) clawq, from the claim to the result",
        "posted": "(c) clawq, from POST to `succeeded`",
        "first": "(d) a container that waits, to the first byte",
        "verdict": "(d) to the verdict",
    }
    print(f"\n| one program at a time, ms, n = {ROUNDS} | median | 95th percentile |\n| --- | ---: | ---: |")
    for name, what in names.items():
        late = sorted(found[name])[int(len(found[name]) * 0.95)]
        print(f"| {what} | {statistics.median(found[name]):.1f} | {late:.1f} |")
    median = {name: statistics.median(times) for name, times in found.items()}
    return [
        Aim("c/a", _ratio(found["claimed"], found["command"]), 0.08),
        Aim("c/b", _ratio(found["claimed"], found["sdk"]), 0.15),
        Aim("first byte", median["first"], 8, " ms"),
        Aim("verdict", median["verdict"], 12, " ms"),
        Aim("POST to `succeeded`", median["posted"], 40, " ms"),
    ]


def _ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """Median of the ratios of neighbours in time: both of a pair saw the same machine."""
    return statistics.median(mine / its for mine, its in zip(ours, others, strict=True))


def show_bursts(best: int, pairs: Sequence[tuple[float, float]], cpu: dict[str, float]) -> Aim:
    """Print what many programs take. Returns what is aimed at."""
    ours, others = zip(*pairs, strict=True)
    print(f"\n| {BURST} programs at once | seconds, median of {len(pairs)} |\n| --- | ---: |")
    print(f"| (e) clawq, {READY} containers ready, {SLOTS} slots | {statistics.median(ours):.2f} |")
    print(f"| (b) {best} at a time, the best of {', '.join(map(str, PARALLEL))} | {statistics.median(others):.2f} |")
    print(f"\n| CPU ms a task | {' | '.join(cpu)} |\n| --- |{' ---: |' * len(cpu)}")
    print(f"| (e) clawq's own processes | {' | '.join(f'{ms:.1f}' for ms in cpu.values())} |")
    return Aim("e, clawq/(b)", _ratio(ours, others), 1.1)


def main() -> None:
    """Measure, and print figures beside what is aimed at."""
    print(f"Load average at the start: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores.")
    with closing(connect()) as engine:
        image = Settings().sandbox_image
        aims = show_times(one_at_a_time(engine.api, image))
        with stack(CLAWQ_SANDBOX_WARM=json.dumps({"python": READY})) as where:
            pool = Pool(where, engine.api, READY)
            pool.grow(SLOTS - _USUAL_SLOTS)
            pool.settle()
            weight = weights(where, pool)
            pool.settle()
            aims.append(show_bursts(*at_once(where, pool, engine.api, image)))
    aims += [
        Aim(f"worker with {SLOTS} programs running", weight["running"], 512, " MiB"),
        Aim("worker after 1,000 tasks / after 100", weight["after 1,000"] / weight["after 100"], 1.05),
    ]
    print(f"\nWorker (f): {', '.join(f'{mb:.1f} MiB {when}' for when, mb in weight.items())}.")
    show(aims)


if __name__ == "__main__":
    sys.exit(main())
