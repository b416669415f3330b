"""Prove the guards: take each away in a copy of the sources, and see its tests go red. `make guards` runs it.

A test that stays green without what it guards proves nothing. Where a guard has moved, its text below no longer occurs
exactly once: that is an error here, and the table is to follow the source.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
#: For one run of a few tests; a guard may keep something from hanging.
_TIMEOUT_S = 180
#: Copies, and runs at once: each has engines of its own, and waits more than it computes.
_AT_ONCE = 2

_TASKS = "tests/integration/tasks"
_FLOWS = "tests/integration/workflows"
_MEMORY = "tests/integration/memory"
_MESSAGES = "tests/integration/messages"
#: Stays green without any guard: the break took the guard away and nothing else.
_PLAIN = f"{_TASKS}/test_finish.py::test_a_success_keeps_the_result_and_closes_the_attempt"
_LATE = f"{_TASKS}/test_claim.py::test_a_late_word_of_an_attempt_that_was_taken_back_changes_nothing"
_DOCKER = "tests/integration/sandbox/test_battery.py::test_in_docker"
_TENANCY = "tests/integration/api/test_api_tenancy.py::test_every_route_answers_as_if_the_other_had_never_been"
_TICK = "tests/integration/workers/test_clock.py::test_a_tick_does_every_duty"


@dataclass(frozen=True)
class Break:
    """A text that occurs once in a file, and what takes its place."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True)
class Guard:
    """What protects, how to take it away, and the tests that must each go red then."""

    name: str
    breaks: Sequence[Break]
    red: Sequence[str]


_STREAMS = "tests/integration/streams/test_streams.py"


def _guard(name: str, file: str, text: str, instead: str, *red: str) -> Guard:
    return Guard(name, [Break(file, text, instead)], red)


GUARDS = (
    _guard(
        "streams: below the horizon", "app/streams/log.py", "AND xid < (SELECT xid FROM h) ORDER", "ORDER",
        f"{_STREAMS}::test_an_event_whose_transaction_began_earlier_and_ended_later_is_not_skipped",
    ),
    _guard(
        "streams: what is told is on the disk", "app/streams/stream.py",
        "            log.secure(db)\n", "            pass\n",
        f"{_STREAMS}::test_what_is_told_is_on_the_disk",
    ),
    _guard(
        "messages: the owner", "app/messages/find.py",
        "if row is None or (owner is not None and row.owner != owner):", "if row is None:",
        "tests/integration/live/test_socket_tenancy.py::test_her_ids_are_nobody_s",
        "tests/integration/live/test_cli_tenancy.py::test_her_ids_are_nobody_s",
    ),
    _guard(
        "streams: the owner", "app/streams/stream.py", "self._caller.sees not in (None, found.owner)", "False",
        f"{_STREAMS}::test_another_owner_s_thing_is_not_there",
        "tests/integration/live/test_socket_tenancy.py::test_her_ids_are_nobody_s",
    ),
    _guard(
        "streams: the owner of each task", "app/streams/log.py", '"(CAST(:owner AS text) IS NULL OR t.owner = :owner)"',
        '"(CAST(:owner AS text) IS NULL OR true)"', f"{_STREAMS}::test_of_an_agent_one_s_own_tasks_are_shown",
    ),
    _guard(
        "streams: a task's own order", "schema/migrations/versions/0006_live.py", "    op.execute(_TRIGGER)\n", "",
        f"{_STREAMS}::test_events_of_a_task_come_in_their_order_whichever_transaction_began_first",
    ),
    _guard(
        "sockets: a look that fails", "api/live/connection.py",
        "            subscription.rung = True\n            raise\n", "            raise\n",
        "tests/integration/live/test_sockets.py::test_a_postgres_that_does_not_answer_costs_time_alone",
    ),
    _guard(
        "tasks: the owner", "app/tasks/find.py", "if task is None or (owner is not None and task.owner != owner):",
        "if task is None:", _TENANCY,
    ),
    _guard(
        "lists of workflows: the owner", "app/workflows/find.py", 'column in ("owner", "status",',
        'column in ("status",', _TENANCY,
    ),
    _guard(
        "memory: the owner", "app/memory/wanted.py", '["m.owner = :w_owner"]', '["true OR m.owner = :w_owner"]',
        f"{_MEMORY}/test_search.py::test_a_narrow_question_is_answered_though_others_are_nearer",
    ),
    _guard(
        "memory index: the version is looked at again", "workers/index_batch.py",
        " and locked[one].version == rows[one].version", "",
        f"{_MEMORY}/test_indexing.py::test_a_change_between_the_look_and_the_write_is_not_overwritten",
    ),
    _guard(
        "memory search: the version that stands", "app/memory/dense.py", " and row.version == near.version", "",
        f"{_MEMORY}/test_indexing.py::test_what_is_written_twice_or_late_harms_nothing",
    ),
    _guard(
        "memory: writes hold the indexes", "app/memory/outbox.py", "    db.execute(_HOLD)\n", "",
        f"{_MEMORY}/test_generations.py::test_a_write_that_is_under_way_is_not_overlooked_by_a_new_generation",
    ),
    _guard(
        "memory: what stands in a place is active", "app/memory/update.py",
        "WHERE id = :replaced_by AND status = 'active'\n", "WHERE id = :replaced_by\n",
        f"{_MEMORY}/test_change.py::test_two_that_replace_each_other_at_once_are_not_both_gone",
    ),
    _guard(
        "messages: one at a time numbers an inbox", "app/messages/deliver.py", " FOR UPDATE SKIP LOCKED", "",
        f"{_MESSAGES}/test_deliver.py"
        "::test_an_inbox_that_another_delivers_to_is_passed_over_and_looked_at_again",
    ),
    _guard(
        "messages: in the order of acceptance", "app/messages/deliver.py", "ORDER BY position LIMIT :most",
        "ORDER BY position DESC LIMIT :most",
        f"{_MESSAGES}/test_deliver.py"
        "::test_a_backlog_is_worked_off_batch_by_batch_and_no_inbox_waits_for_another",
    ),
    _guard(
        "messages: an inbox is its owner's", "app/messages/find.py", ".where(Message.owner == owner, ", ".where(",
        "tests/integration/api/test_api_messages.py::test_owners_share_agents_and_nothing_else",
    ),
    _guard(
        "messages: copies hold their post", "app/messages/posts.py", " ORDER BY id FOR NO KEY UPDATE", "",
        f"{_MESSAGES}/test_inbox.py"
        "::test_of_two_that_acknowledge_copies_at_once_the_later_sees_that_all_are_received",
    ),
    _guard(
        "messages: a closed session", "app/messages/send.py",
        "sessions WHERE id = :id AND owner = :owner FOR SHARE", "sessions WHERE id = :id AND owner = :owner",
        f"{_MESSAGES}/test_send.py::test_a_message_waits_for_who_is_closing",
    ),
    _guard("clock: messages", "workers/clock.py", "    deliver.ring_due,\n", "", _TICK),
    _guard(
        "advance: what no canvas has brought", "app/workflows/advance.py",
        '    metrics.CANVASES_OVERDUE.inc(len(db.execute(_OVERDUE, {"id": workflow.id}).all()))\n', "",
        "tests/chaos/test_workflows.py"
        "::test_a_chain_whose_worker_dies_before_it_passes_it_on_is_carried_on_by_the_coordinator",
    ),
    _guard(
        "finish: the attempt", "app/tasks/finish.py", " AND t.attempt = n.attempt", "", _LATE,
        "tests/chaos/test_workers.py::test_the_late_result_of_a_stopped_worker_is_refused",
    ),
    _guard(
        "finish: only what runs", "app/tasks/finish.py", "n.was = 'running'", "true",
        f"{_TASKS}/test_finish.py::test_of_many_ends_of_one_attempt_one_is_written",
    ),
    _guard(
        "report: the attempt", "app/tasks/report.py", "AND attempt = :attempt", "AND attempt >= :attempt", _LATE,
    ),
    _guard(
        "container: the attempt", "app/tasks/report.py", "t.attempt = a.attempt AND", "",
        f"{_TASKS}/test_claim.py::test_the_container_is_recorded_with_the_attempt_that_runs_it",
    ),
    _guard(
        "artifacts: the attempt", "app/tasks/artifacts.py", "AND attempt = :attempt AND status", "AND status",
        f"{_TASKS}/test_artifacts.py::test_an_attempt_that_was_taken_back_keeps_nothing_more",
    ),
    _guard(
        "artifacts: an end is awaited", "app/tasks/artifacts.py", " FOR KEY SHARE\n", "\n",
        f"{_TASKS}/test_artifacts.py::test_a_file_that_is_kept_while_its_attempt_ends_comes_too_late",
    ),
    _guard(
        "heartbeat: the attempt", "app/tasks/lease.py", "t.attempt = n.attempt AND", "",
        f"{_TASKS}/test_claim.py::test_a_heartbeat_extends_only_the_leases_that_are_held",
    ),
    _guard("look: the attempt", "app/tasks/lease.py", "USING (id, attempt)", "USING (id)", _LATE),
    _guard(
        "claim: only what is queued", "app/tasks/claim.py", "locked.status = 'queued'", "true",
        f"{_TASKS}/test_claim.py::test_an_envelope_that_comes_again_claims_nothing",
        f"{_TASKS}/test_claim.py::test_of_many_threads_that_claim_the_same_tasks_each_task_goes_to_one",
    ),
    _guard(
        "admission: one at a time", "app/tasks/admit.py", "pg_advisory_xact_lock(hashtext('clawq.admit'))", "1",
        f"{_TASKS}/test_admit.py::test_an_admission_does_not_fill_the_room_of_one_that_is_under_way",
    ),
    _guard(
        "children: each parent counts", "app/tasks/release.py", "t.deps_left - cardinality(locked.parents)", "0",
        f"{_TASKS}/test_release.py::test_a_child_waits_for_all_its_parents",
    ),
    _guard(
        "take back: only expired leases", "app/tasks/recover.py", "AND lease_until < now()", "",
        f"{_TASKS}/test_recover.py::test_an_expired_lease_gives_the_task_back",
    ),
    _guard("clock: workflows", "workers/clock.py", "    sweep_workflows,\n", "", _TICK),
    _guard(
        "workflow: one look at a time", "app/workflows/lock.py", " FOR NO KEY UPDATE", "",
        f"{_FLOWS}/test_advance.py::test_two_looks_at_once_let_go_no_more_than_there_is_room_for",
    ),
    _guard(
        "workflow: what a canvas does not bring", "app/workflows/advance.py", "AND next_dispatch_at <= now()",
        "AND false", f"{_FLOWS}/test_lost.py::test_a_counter_that_is_lost",
    ),
    _guard(
        "workflow: what is left of a canvas", "app/tasks/release.py", "AND NOT :in_canvas",
        "AND :in_canvas AND NOT :in_canvas",
        f"{_FLOWS}/test_lost.py::test_a_parent_that_ends_outside_its_chain_gives_its_child_to_the_coordinator",
    ),
    _guard(
        "admission: what is the gateway's", "app/tasks/admit.py", " AND locked.carrier = 'gateway'", "",
        f"{_FLOWS}/test_control.py::test_an_admission_that_has_chosen_a_task_before_a_pause_does_not_queue_it",
    ),
    _guard(
        "workflow: after its parents", "app/workflows/enter.py", " AND deps_left = 0\n", "\n",
        f"{_FLOWS}/test_lost.py::test_a_body_that_comes_before_its_parents_have_ended",
    ),
    _guard("clock: takes back", "workers/clock.py", "    recover.take_back,\n", "", _TICK),
    _guard(
        "clock: sends again", "workers/clock.py", "    recover.redispatch,\n", "", _TICK,
        "tests/chaos/test_workers.py::test_envelopes_die_with_a_worker_that_took_but_did_not_open_them",
    ),
    _guard(
        "clock: notices a loss", "workers/clock.py", "    epoch.watch,\n", "",
        "tests/chaos/test_redis.py::test_a_redis_that_forgets_everything_loses_no_waiting_task",
    ),
    _guard(
        "submit: the key", "app/tasks/submit.py", "n.key_id IS NULL OR k.id IS NOT NULL", "true",
        "tests/integration/api/test_api_access.py"
        "::test_who_is_known_writes_nothing_from_the_moment_on_that_the_key_is_no_good",
    ),
    _guard(
        "submit: parents are held", "app/tasks/check.py", "ORDER BY id FOR SHARE", "ORDER BY id",
        f"{_TASKS}/test_submit.py::test_a_submit_waits_for_a_parent_that_is_ending_and_misses_no_release",
    ),
    _guard("clock: expires", "workers/clock.py", "    recover.expire,\n", "", _TICK),
    _guard("clock: starts what is due", "workers/clock.py", "    recover.start_due,\n", "", _TICK),
    _guard(
        "sandbox: only the calls that are listed", "workers/sandbox/seccomp.json",
        '"defaultAction": "SCMP_ACT_ERRNO"', '"defaultAction": "SCMP_ACT_ALLOW"',
        f"{_DOCKER}[calls that are the administrator's]", f"{_DOCKER}[networks of every kind]",
    ),
    _guard(
        "sandbox: pids", "workers/sandbox/profile.py", "profile.pids + 1,", "profile.pids + 100,",
        f"{_DOCKER}[thread bomb]", f"{_DOCKER}[zombies that are never reaped]",
    ),
    _guard(
        "sandbox: the supervisor is closed", "workers/sandbox/supervisor.py", "    set_dumpable(False)\n", "",
        f"{_DOCKER}[frames forged on every descriptor]", f"{_DOCKER}[reads of what is the supervisor's and the host's]",
    ),
    _guard(
        "sandbox: a fork has no descriptor of the supervisor", "workers/sandbox/program.py",
        "        os.closerange(PROGRESS_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n", "",
        f"{_DOCKER}[frames forged on every descriptor]", f"{_DOCKER}[the supervisor's state in a fork of it]",
    ),
    _guard(
        "sandbox: out is no link", "workers/sandbox/collect.py",
        "if not stat.S_ISDIR(os.lstat(directory).st_mode):", "if not os.path.exists(directory):",
        f"{_DOCKER}[out is a link to a directory of the system]", f"{_DOCKER}[out is a link to another directory]",
    ),
    Guard(
        "one end a round",
        [
            Break("schema/tasks.py", '"round",\n            unique=True', '"round",\n            unique=False'),
            Break(
                "schema/migrations/versions/0001_initial.py",
                '["task_id", "round"],\n        unique=True',
                '["task_id", "round"],\n        unique=False',
            ),
        ],
        [
            f"{_TASKS}/test_transitions.py::test_the_database_itself_refuses_a_second_end_in_a_round",
            f"{_TASKS}/test_finish.py::test_a_finish_without_its_own_guards_is_refused_by_the_database",
        ],
    ),
)  # fmt: skip


def main() -> int:
    """Returns the exit code: 0 if every guard is proved."""
    with tempfile.TemporaryDirectory(prefix="clawq-guards-") as place, ThreadPoolExecutor(_AT_ONCE) as executor:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(_AT_ONCE):
            _copy_sources(copy := Path(place, str(number)))
            copies.put(copy)
        # The run of all tests first: it is the longest, and the others fill the time beside it.
        unbroken = executor.submit(_unbroken, copies)
        proved = [executor.submit(_proved, guard, copies) for guard in GUARDS]
        if red := unbroken.result():
            executor.shutdown(cancel_futures=True)
        wrong = red or [guard.name for guard, future in zip(GUARDS, proved, strict=True) if not future.result()]
    print(f"not proved: {', '.join(wrong)}" if wrong else f"{len(GUARDS)} guards proved")
    return 1 if wrong else 0


@contextmanager
def _one_of(copies: SimpleQueue[Path]) -> Iterator[Path]:
    """A copy that nobody else uses meanwhile, whole before and after."""
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def _copy_sources(copy: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():  # and not deleted since the last commit
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _unbroken(copies: SimpleQueue[Path]) -> list[str]:
    """What is red or missing before anything is broken."""
    tests = list(dict.fromkeys([_PLAIN, *(test for guard in GUARDS for test in guard.red)]))
    with _one_of(copies) as copy:
        outcomes, output = _run(copy, tests)
    red = [test for test in tests if not _are(outcomes, test, {"PASSED"})]
    print(f"unbroken: {'RED' if red else 'green'}, {len(outcomes)} tests", flush=True)
    if red:
        print(output)
    return red


def _proved(guard: Guard, copies: SimpleQueue[Path]) -> bool:
    """Break it, look at its tests, mend it; one line of what came of it."""
    started = time.monotonic()
    with _one_of(copies) as copy:
        whole = {b.file: (copy / b.file).read_text() if (copy / b.file).is_file() else "" for b in guard.breaks}
        for b in guard.breaks:
            if (found := whole[b.file].count(b.text)) != 1:
                print(f"{guard.name}: MOVED: {found} times in {b.file}, not once: {b.text!r}", flush=True)
                return False
        try:
            for b in guard.breaks:
                (copy / b.file).write_text(whole[b.file].replace(b.text, b.instead))
            outcomes, output = _run(copy, [_PLAIN, *guard.red])
        finally:
            for file, text in whole.items():
                (copy / file).write_text(text)
    green = [test for test in guard.red if not _are(outcomes, test, {"PASSED", "FAILED"}, at_least_one="FAILED")]
    told = f"red, {sum(o == 'FAILED' for o in outcomes.values())} tests failed, {time.monotonic() - started:.0f} s"
    if not _are(outcomes, _PLAIN, {"PASSED"}):
        told = f"MORE THAN THE GUARD IS BROKEN\n{output}"
    elif green:
        told = f"STILL GREEN: {', '.join(green)}"
    print(f"without {guard.name!r}: {told}", flush=True)
    return told.startswith("red")


def _are(outcomes: dict[str, str], test: str, allowed: set[str], at_least_one: str = "PASSED") -> bool:
    """Whether the outcomes of a test, or of all its parameters, are of those."""
    found = {outcome for name, outcome in outcomes.items() if name == test or name.startswith(f"{test}[")}
    return at_least_one in found and found <= allowed


def _run(copy: Path, tests: Iterable[str]) -> tuple[dict[str, str], str]:
    """Run tests in the copy. Returns the outcome of each, and what pytest said."""
    # Same length and same second would make Python take the byte code of the file before.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "CLAWQ_TESTS_STRICT": "1", "CLAWQ_SETTLE_S": "20"}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *tests], cwd=copy, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return {}, f"not done within {_TIMEOUT_S} s"
    outcomes = re.findall(
        r"^(PASSED|FAILED|ERROR) (tests/\S+?\.py::\w+(?:\[.*?\](?= - |$))?)", done.stdout, re.MULTILINE
    )
    said = (done.stdout + done.stderr).splitlines()[-40:]
    return {name: outcome for outcome, name in outcomes}, "\n".join(said)


if __name__ == "__main__":
    sys.exit(main())
