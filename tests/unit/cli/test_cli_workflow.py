"""`clawq workflow` against an API that is a function."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from app.cli import board, stream, workflow
from app.cli import main as entry
from app.cli.client import ApiError, Away, Client
from tests.unit.cli.conftest import Cli
from tests.unit.cli.test_cli_board import STATES, node

DOCUMENT = {"name": "x", "tasks": []}
EMPTY: dict[str, Any] = {"nodes": [], "edges": [], "critical_path": [], "left_out": 0}


def told(status: str = "pending", **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("description", "owner", "rerun_of", "deadline", "error", "completed_at"))
    counts = dict.fromkeys(STATES, 0) | {"succeeded": 1, "pending": 1}
    return {
        "id": "w1", "name": "x", "status": status, "progress": 50, "counts": counts, "document": DOCUMENT,
        "created_at": "2030-01-01T00:00:00Z", **empty, **values,
    }  # fmt: skip


class Api:
    """What is asked of the API, and what it answers."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture
        self.asked: list[tuple[Any, ...]] = []
        self.states = ["pending"]
        self.graph = EMPTY
        self.error: str | None = None
        #: What the stream of events yields.
        self.told: Iterator[bytes] | None = None

    def get(self, path: str, **params: Any) -> Any:
        self.asked.append(("GET", path, params))
        if path.endswith("/graph"):
            return self.graph
        if path == "/workflows":
            return {"items": [told()], "next_cursor": None}
        status = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return told(status, error=self.error)

    def post(self, path: str, body: Any = None) -> Any:
        self.asked.append(("POST", path, body))
        return told(self.states[0], completed_at=None)

    def send(self, path: str, content: bytes, media_type: str) -> Any:
        self.asked.append(("POST", path, content, media_type))
        return told()

    def run(self, *argv: str) -> int:
        """Run `clawq workflow …`; returns its exit code."""
        self._patch.setattr(sys, "argv", ["clawq", "workflow", *argv])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return int(ended.value.code or 0)

    def shown(self) -> Any:
        """What was printed since."""
        return self._capture.readouterr()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Api:
    """An API that answers each time with the next of its states."""
    served = Api(monkeypatch, capsys)
    monkeypatch.setattr(Client, "__init__", lambda _: None)
    for verb in ("get", "post", "send"):
        monkeypatch.setattr(Client, verb, lambda _, *args, verb=verb, **kwargs: getattr(served, verb)(*args, **kwargs))

    @contextmanager
    def told(*_: Any, **__: Any) -> Iterator[Iterator[bytes] | None]:
        news, served.told = served.told, None
        yield news

    monkeypatch.setattr(Client, "stream", told)
    monkeypatch.setattr(board.time, "sleep", lambda _: None)
    return served


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("w.yaml", "application/yaml"), ("w.YML", "application/yaml"), ("w.json", "application/json"),
     ("w", "application/json")],
)  # fmt: skip
def test_a_document_is_sent_as_it_is(api: Api, tmp_path: Path, name: str, media_type: str) -> None:
    (tmp_path / name).write_text("any: text\n")
    (tmp_path / f"bom-{name}").write_bytes(b"\xef\xbb\xbfany: text\n")
    assert api.run("run", str(tmp_path / name)) == 0
    assert api.asked == [("POST", "/workflows", b"any: text\n", media_type)]
    assert api.run("run", str(tmp_path / f"bom-{name}")) == 0
    assert api.asked[1:] == api.asked[:1]
    assert api.shown().out == "w1\nw1\n"


@pytest.mark.parametrize("text", [' {"a": 1}', "a: 1", "{a: 1}"])
def test_standard_input_may_be_either(api: Api, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))
    assert api.run("run", "-", "--json") == 0
    assert api.asked == [("POST", "/workflows", text.encode(), "application/yaml")]


def test_another_input_takes_the_place_of_the_document_s(api: Api, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("name: x\ntasks: []\ninput: {n: 1, m: 2}\n")
    (tmp_path / "input.yml").write_text("n: 3\n")
    (tmp_path / "input").write_text('{"n": 4}')
    for given in ('{"n": 2}', str(tmp_path / "input.yml"), str(tmp_path / "input")):
        assert api.run("run", str(tmp_path / "w.yaml"), "--input", given) == 0
    assert [body for _, _, body in api.asked] == [DOCUMENT | {"input": {"n": n}} for n in (2, 3, 4)]


def test_yaml_that_the_api_would_not_take_is_sent_as_json(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "w.yaml").write_text("name: x\ntasks: []\n")
    monkeypatch.setattr(workflow, "_MAX_YAML_BYTES", 10)
    assert api.run("run", str(tmp_path / "w.yaml")) == 0
    assert api.asked == [("POST", "/workflows", DOCUMENT)]


@pytest.mark.parametrize(
    ("given", "why"),
    [("{", "--input is not JSON"), ("/no/file", "No such file"), ("{]", "--input is not JSON")],
)
def test_an_input_that_is_none_is_refused(cli: Cli, tmp_path: Path, given: str, why: str) -> None:
    (tmp_path / "w.json").write_text("{}")
    assert why in cli.refuses("workflow", "run", str(tmp_path / "w.json"), "--input", given)
    assert why in cli.refuses("workflow", "rerun", "w1", "--input", given)


def test_a_document_that_cannot_be_read_is_refused_before_anything_is_asked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bad.yaml").write_text("a: 1\nb: *a\n")
    assert "no object" in cli.refuses("workflow", "run", str(tmp_path / "list.json"), "--input", "{}")
    assert "line 2" in cli.refuses("workflow", "run", str(tmp_path / "bad.yaml"), "--input", "{}")
    assert "No such file" in cli.refuses("workflow", "run", str(tmp_path / "none.yaml"))
    assert "does not answer" in cli.refuses("workflow", "run", str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize("command", ["show", "graph", "cancel", "pause", "resume", "retry", "rerun"])
def test_an_id_that_is_none_is_refused(cli: Cli, command: str) -> None:
    assert "'../keys' is no id" in cli.refuses("workflow", command, "../keys")


@pytest.mark.parametrize(("end", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
@pytest.mark.parametrize("command", [("run", "{file}"), ("show", "w1")])
def test_watching_ends_with_the_workflow_and_says_how(
    api: Api, tmp_path: Path, command: tuple[str, ...], end: str, code: int
) -> None:
    (tmp_path / "w.json").write_text("{}")
    api.states = ["pending", "running", "running", end]
    api.graph = EMPTY | {"nodes": [node("a", "succeeded", attempt=1)]}
    argv = [part.format(file=tmp_path / "w.json") for part in command]
    assert api.run(*argv, "--watch") == code
    shown = api.shown()
    lines = [line.split() for line in shown.err.splitlines() if not line.startswith("Workflow")]
    # Of a workflow that was there before, only what happens from now on is told.
    before = [["a", "succeeded"]] if command[0] == "run" else []
    assert lines == [*before, ["workflow", "pending"], ["workflow", "running"], ["workflow", end]]
    assert shown.out == ""


def test_watching_for_a_program_prints_the_end_alone(api: Api) -> None:
    api.states = ["running", "failed"]
    assert api.run("show", "w1", "--watch", "--json") == 1
    shown = api.shown()
    assert (json.loads(shown.out)["status"], shown.err) == ("failed", "")
    assert not [path for _, path, *_ in api.asked if path.endswith("/graph")]


def test_a_workflow_is_looked_at_no_oftener_than_twice_a_second(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(board.time, "monotonic", lambda: now)
    monkeypatch.setattr(board.time, "sleep", sleep)
    # Nothing is told, as if too many followed already. What looks like the end is looked at at once.
    api.states = ["running"] * 9 + ["succeeded"]
    assert api.run("show", "w1", "--watch") == 0
    graphs = [path for _, path, *_ in api.asked if path.endswith("/graph")]
    assert len(graphs) == 10
    assert now - 100 >= 4


@pytest.mark.timeout(20)
def test_a_workflow_is_looked_at_when_something_has_happened(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_STILL_S", 3600)
    monkeypatch.setattr(board, "_LOOK_S", 0)
    looked = threading.Semaphore(0)

    def told() -> Iterator[bytes]:
        for state in ("running", "succeeded"):
            looked.acquire()
            api.states = [state]
            yield b'id: 1\nevent: event\ndata: {"kind": "any"}\n\n'

    def graph(*_: Any, **__: Any) -> Any:
        looked.release()
        return EMPTY

    api.states, api.told = ["pending"], told()
    monkeypatch.setattr(Api, "graph", property(graph, lambda *_: None), raising=False)
    assert api.run("show", "w1", "--watch") == 0
    assert [line.split() for line in api.shown().err.splitlines()] == [
        ["workflow", "pending"], ["workflow", "running"], ["workflow", "succeeded"],
    ]  # fmt: skip


def test_a_watch_outlives_an_api_that_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [Away("no answer")] * 3 + [told("running"), EMPTY, Away("no answer"), told("failed"), EMPTY]

    def get(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Away):
            raise answer
        return answer

    monkeypatch.setattr(Client, "get", get)
    assert api.run("show", "w1", "--watch") == 1
    assert answers == []
    answers.append(Away("no answer"))
    monkeypatch.setattr(stream, "_PATIENCE_S", -1)
    assert api.run("show", "w1", "--watch") == 1
    assert "no answer" in api.shown().err


@pytest.mark.parametrize(("why", "code"), [(KeyboardInterrupt(), 130), (ApiError("gone"), 1)])
def test_who_stops_watching_is_told_that_the_workflow_goes_on(
    api: Api, monkeypatch: pytest.MonkeyPatch, why: BaseException, code: int
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise why

    monkeypatch.setattr(Client, "get", broken)
    assert api.run("show", "w1", "--watch") == code
    said = api.shown().err
    assert "The workflow goes on." in said
    assert "clawq watch w1" in said
    assert "clawq workflow cancel w1" in said


def test_a_list_is_a_table(api: Api) -> None:
    assert api.run("list", "--status", "failed", "--name", "x", "--limit", "5") == 0
    params = {"status": "failed", "name": "x", "label": None, "limit": 5}
    assert api.asked == [("GET", "/workflows", params)]
    assert api.shown().out.splitlines()[1].split()[:3] == ["w1", "pending", "1/2"]


def test_a_workflow_is_shown_with_its_tasks(api: Api) -> None:
    api.states, api.error = ["failed"], "a failed."
    api.graph = EMPTY | {"nodes": [node("a", "failed", attempt=3, error="It broke.", duration_s=1.25)], "left_out": 2}
    assert api.run("show", "w1") == 0
    lines = [" ".join(line.split()) for line in api.shown().out.splitlines()]
    assert lines[0] == "w1 failed"
    assert "error a failed." in lines
    assert "tasks 50%, 1/2 ended: 1 pending, 1 succeeded" in lines
    assert "a failed 3 1.2 s It broke." in lines
    assert lines[-1] == "… and 2 more: 2 items"
    assert api.run("show", "w1", "--json") == 0
    assert json.loads(api.shown().out)["graph"] == api.graph


def test_a_graph_shows_parents_and_where_the_time_goes(api: Api) -> None:
    nodes = [node("a", "succeeded"), node("m"), node("m[0]", mapped_from="m"), node("z")]
    edges = [["a", "m"], ["m[0]", "m"], ["a", "z"], ["m", "z"]]
    api.graph = {"nodes": nodes, "edges": edges, "critical_path": ["a", "z"], "left_out": 0}
    assert api.run("graph", "w1") == 0
    rows = [line.split() for line in api.shown().out.splitlines()]
    assert rows[1:] == [
        ["*", "a", "succeeded", "0", "id-a"],
        ["m", "pending", "0", "id-m", "a"],
        ["m[0]", "pending", "0", "id-m[0]"],
        ["*", "z", "pending", "0", "id-z", "a,", "m"],
    ]
    assert api.run("graph", "w1", "--json") == 0
    assert json.loads(api.shown().out) == api.graph


@pytest.mark.parametrize(
    ("verb", "state", "said"),
    [
        ("cancel", "cancelled", "is cancelled"), ("cancel", "running", "is asked to stop"),
        ("pause", "paused", "is paused"), ("resume", "running", "goes on"),
        ("retry", "running", "goes on from where it failed"),
    ],
)  # fmt: skip
def test_a_workflow_is_steered(api: Api, verb: str, state: str, said: str) -> None:
    api.states = [state]
    assert api.run(verb, "w1") == 0
    assert api.asked == [("POST", f"/workflows/w1/{verb}", None)]
    assert api.shown().out == f"Workflow w1 {said}.\n"


@pytest.mark.parametrize(("given", "body"), [((), {}), (("--input", '{"n": 2}'), {"input": {"n": 2}})])
def test_a_workflow_is_run_again(api: Api, given: tuple[str, ...], body: Any) -> None:
    assert api.run("rerun", "w0", *given) == 0
    assert api.asked == [("POST", "/workflows/w0/rerun", body)]
    assert api.shown().out == "w1\n"
