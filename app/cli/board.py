"""How a workflow looks while it runs: a board on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli import render, stream
from app.cli.client import TERMINAL, ApiError, Away, Client, at

#: Tasks on the board. Of more, those are shown that something happens to.
MOST_ROWS = 30
#: Lines of a terminal that are not rows: header, counts of the rest, and the prompt.
_OTHER_LINES = 4
#: Least seconds between two looks; a graph that takes long to get is looked at less often.
_LOOK_S = 0.5
_LOOKS_APART = 5
#: Most seconds between two looks, for what happens to no task: a pause is none of theirs.
_STILL_S = 5.0
_PATIENCE_S = 30
#: Columns of a bar, of a key, and between two cells.
_WIDTH = 24
_LONGEST_KEY = 32
_GAP = 2
Json = dict[str, Any]


def watch(client: Client, workflow_id: str, *, quiet: bool, is_new: bool) -> Json:
    """Show a workflow until it has ended; returns it then. Says how to see it again if that is broken off.

    Args:
        quiet: show nothing.
        is_new: it was posted just now, so whatever has happened to it is news.
    """
    try:
        if quiet:
            return _end(client, workflow_id)
        workflow: Json = {}
        said: dict[str, str] = {}
        live = Live(console=render.err, refresh_per_second=8) if render.err.is_terminal else None
        with live or nullcontext():
            for workflow, graph in _looks(client, workflow_id):
                if live:
                    live.update(picture(workflow, graph))
                    continue
                shows_all = is_new or bool(said)
                lines = list(changes(workflow, graph["nodes"], said))
                for line in lines if shows_all else lines[-1:]:
                    render.err.print(line)
        return workflow
    except (ApiError, KeyboardInterrupt):
        render.err.print(
            f"The workflow goes on.\n  clawq watch {workflow_id}             follow it\n"
            f"  clawq workflow cancel {workflow_id}   end it"
        )
        raise


def picture(workflow: Json, graph: Json) -> Group:
    """The board: how far the workflow is, and a row for each task or for those that something happens to."""
    shown, rest = choose(graph["nodes"], max(1, min(MOST_ROWS, render.err.height - _OTHER_LINES)))
    return Group(_header(workflow), _rows(shown), *more(rest, graph["left_out"]))


def more(rest: Counter[str], left_out: int) -> list[Text]:
    """What is said of tasks that are not shown: how many, and in which states as far as that is known."""
    total = sum(rest.values()) + left_out
    states = [*([listed(rest)] if rest else []), *([f"{left_out} items"] if left_out else [])]
    return [Text(f"… and {total} more: {', '.join(states)}", style="dim")] if total else []


def choose(nodes: Sequence[Json], room: int) -> tuple[list[Json], Counter[str]]:
    """The tasks that are shown where there is room for so many, and how many others there are by their state.

    Failed and running ones come first, then those that ended last, then those that are next.
    """
    if len(nodes) <= room:
        return list(nodes), Counter()
    urgency = {"failed": 0, "running": 1}
    latest = sorted(range(len(nodes)), key=lambda place: nodes[place]["completed_at"] or "", reverse=True)
    ranked = sorted(latest, key=lambda place: urgency.get(nodes[place]["status"], 2))
    kept = set(ranked[:room])
    shown = [node for place, node in enumerate(nodes) if place in kept]
    return shown, Counter(node["status"] for place, node in enumerate(nodes) if place not in kept)


def changes(workflow: Json, nodes: Sequence[Json], said: dict[str, str]) -> Iterator[Text]:
    """A line for each task, and last the workflow, whose state is not what was `said`; that is brought up to date."""
    for node in sorted(nodes, key=lambda node: node["completed_at"] or node["started_at"] or "~"):
        state = f"{node['status']} {node['attempt']}"
        # All begin as pending, and ten thousand such lines say nothing.
        if said.get(node["key"], "pending 0") != state:
            said[node["key"]] = state
            yield Text.assemble(f"{render.one_line(node['key']):<24} ", render.state(node["status"]), _trouble(node))
    if said.get("") != workflow["status"]:
        said[""] = workflow["status"]
        yield Text.assemble("workflow ", render.state(workflow["status"]), _trouble(workflow))


def tally(counts: dict[str, int]) -> str:
    """How many tasks have ended, of all."""
    return f"{sum(counts[state] for state in TERMINAL)}/{sum(counts.values())}"


def listed(counts: dict[str, int]) -> str:
    """How many are in each state, those without any left out."""
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def span(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02} h" if hours else f"{minutes}:{whole:02} min"


def _looks(client: Client, workflow_id: str) -> Iterator[tuple[Json, Json]]:
    """A workflow and its graph, now and whenever something has happened to it; the last look is at the end."""
    news, patience = stream.News(client, workflow_id=workflow_id), stream.Patience()
    while True:
        began = time.monotonic()
        try:
            workflow = client.get(at("workflows", workflow_id))
            graph = client.get(at("workflows", workflow_id, "graph"))
        except Away as exc:
            patience.wait(exc)
            continue
        patience.renew()
        took = time.monotonic() - began
        yield workflow, graph
        if workflow["status"] in TERMINAL:
            return
        news.wait(began + min(max(_LOOK_S, _LOOKS_APART * took), _PATIENCE_S), _STILL_S)


def _end(client: Client, workflow_id: str) -> Json:
    while True:
        workflow: Json = stream.patiently(lambda: client.get(at("workflows", workflow_id), wait=_PATIENCE_S))
        if workflow["status"] in TERMINAL:
            return workflow
        # If too many wait already, the answer comes at once.
        time.sleep(_LOOK_S)


def _header(workflow: Json) -> Table:
    header = Table.grid(padding=(0, 2))
    header.add_row(
        Text(render.one_line(workflow["name"]), style="bold", overflow="ellipsis", no_wrap=True),
        render.state(workflow["status"]),
        _bar(workflow["progress"]),
        Text(f"{workflow['progress']}%  {tally(workflow['counts'])}", style="bold"),
        Text(listed(workflow["counts"]), style="dim", overflow="ellipsis", no_wrap=True),
    )
    return header


def _rows(nodes: Sequence[Json]) -> Table:
    cells = [_cells(node) for node in nodes]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    rows = Table.grid(padding=(0, _GAP, 0, 0))
    for place in range(len(widths)):
        rows.add_column(no_wrap=True, justify="right" if place > 1 else "left")
    # Rich would take from every column what one has too much.
    room = render.err.width - sum(widths) - _WIDTH - _GAP * (len(widths) + 2)
    for node, some in zip(nodes, cells, strict=True):
        error = Text(render.one_line(node["error"] or ""), style="red" if node["status"] == "failed" else "dim")
        error.truncate(max(room, 0), overflow="ellipsis")
        percent = 100 if node["status"] == "succeeded" else node["progress"] or 0
        rows.add_row(*some, _bar(percent) if node["status"] in ("running", "succeeded") else Text(" " * _WIDTH), error)
    return rows


def _cells(node: Json) -> tuple[Text, ...]:
    key = Text(("  " if node["mapped_from"] else "") + render.one_line(node["key"]))
    key.truncate(_LONGEST_KEY, overflow="ellipsis")
    attempt = Text(f"try {node['attempt']}" if node["attempt"] > 1 else "")
    return key, render.state(node["status"]), attempt, Text(span(node["duration_s"]))


def _bar(percent: int) -> ProgressBar:
    return ProgressBar(total=100, completed=percent, width=_WIDTH)


def _trouble(thing: Json) -> str:
    return f"  {render.one_line(thing['error'])}" if thing["error"] else ""
