"""Whatever somebody asks for, at any route and with anybody's ids, the answer is as if the other owner had never been.

Both have one of each thing. What Bob asks is asked twice: in a world with Ada's things and in one without, everything
else the same. So her ids are to him as those that nobody has, his lists and sums are without her, and nothing of hers
changes. Only what is new in an answer, its own ids and times, may differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.memory import dense, index
from app.settings import settings as clawq_settings
from tests.integration.api.asks import ENDPOINTS, Ask, asks, gaps, kind_of
from tests.integration.api.conftest import PREFIX, Caller
from tests.integration.memory.hands import catch_up, do
from tests.support import sql
from tests.things import COMMON, Things, things_of
from tests.worlds import TABLES, World, kept

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)")
#: New each time.
_TICKET = re.compile(r'("ticket": ?")[^"]+')
#: Seconds that go on.
_LAPSE = re.compile(r'("(?:duration_s|lag_s|oldest_queued_s)": ?)[0-9.e-]+')
#: Scores fade with time, but not so that it shows in three decimals.
_SCORE = re.compile(r"\b\d+\.\d{5,}(e-\d+)?\b")
_NUMBER = re.compile(r'(": ?)([0-9.e-]+|null)')
#: Routes whose numbers are over all owners, as their documentation says. They name nobody.
COUNTS = {"list_queues"}
#: A document that is imported keeps its id if nobody has it; if somebody has, it gets another one.
TAKEN = ("import_memories", ("body", "memories", 0, "id"))
NOBODY = "0190f3a0-0000-7000-8000-000000000000"
#: What a route answers to who calls it with things of his own, or lacks its scope.
LIVED = (200, 201, 202, 204, 403, 409)
_KEY = {"Idempotency-Key": "once"}
_which = st.integers(0, 2**16)


@dataclass(frozen=True)
class Answer:
    """What is to be the same in both worlds."""

    http_status: int
    headers: tuple[tuple[str, str], ...]
    text: str


@dataclass
class Pair:
    """Two owners and the two worlds: with Ada, and without."""

    bob: Caller
    hers: Things
    his: Things
    both: World
    alone: World
    began: str

    def ask(self, ask: Ask) -> Answer:
        """What Bob is answered now."""
        response = self.bob.call(
            ask.endpoint.method, ask.url, ask.body, query_string=dict(ask.query),
            headers={"X-Request-ID": "same", **ask.headers},
        )  # fmt: skip
        # A stream may have no end; that it begins is its answer.
        text = "" if response.mimetype == "text/event-stream" else response.get_data(as_text=True)
        response.close()
        headers = [(name, self._lasting(value)) for name, value in response.headers if name != "Content-Length"]
        text = _NUMBER.sub(r"\1#", text) if ask.endpoint.name in COUNTS else self._lasting(text)
        return Answer(response.status_code, tuple(sorted(headers)), text)

    def asked_in(self, world: World, wanted: Iterable[Ask]) -> list[Answer]:
        """What Bob is answered in a world, to each as if it were the first. Nothing of Ada's changes."""
        world.come()
        theirs = self.hers.rows([table.name for table in TABLES])
        answers = []
        for ask in wanted:
            answers.append(answer := self.ask(ask))
            if changed := world.changed():
                assert answer.http_status < 400, f"refused, and something changed: {ask}, {answer}"
                was = [row for row in theirs if row[0] in changed]
                assert self.hers.rows(changed) == was, f"changed something of hers: {ask}, {answer}"
                world.come(changed)
        return answers

    def compare(self, wanted: Sequence[Ask]) -> None:
        """Ask in both worlds; no answer tells in which."""
        with_her, without = (self.asked_in(world, wanted) for world in (self.both, self.alone))
        for ask, one, other in zip(wanted, with_her, without, strict=True):
            assert self.hers.secret not in one.text, ask
            assert one == other, ask

    def _lasting(self, text: str) -> str:
        known = {*self.hers.own, *self.his.own}
        text = _UUID.sub(lambda found: found[0] if found[0] in known else "(new)", text)
        text = _TIME.sub(lambda found: found[0] if found[0] < self.began else "(later)", text)
        text = _TICKET.sub(r"\1#", text)
        text = _LAPSE.sub(r"\1#", text)
        return _SCORE.sub(lambda found: f"{float(found[0]):.3f}", text)


@pytest.fixture
def pair(memory: pytest.MonkeyPatch, caller: Callable[..., Caller]) -> Iterator[Pair]:
    """Ada and Bob with all their things; the index knows their memories."""
    # Workers are alive in both worlds, however long this takes.
    memory.setenv("CLAWQ_LEASE_S", "3600")
    clawq_settings.cache_clear()
    bob = caller("bob", "read", "submit")
    hers, his = things_of("ada"), things_of("bob")
    _repeatable(hers, his)
    catch_up()
    began = sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")[0][0]
    with kept():
        both = World("both")
        hers.forget()
        yield Pair(bob, hers, his, both, World("alone"), began)


def _repeatable(hers: Things, his: Things) -> None:
    """She has used an Idempotency-Key at every route that takes one."""
    for ask in asks(his):
        if ask.endpoint.creates:
            sql(
                "INSERT INTO idempotency (owner, route, key, body_sha256, http_status, response)"
                " VALUES (:owner, :route, 'once', '', 201, '{}') ON CONFLICT DO NOTHING",
                owner=hers.owner, route=f"POST {PREFIX}{ask.url}",
            )  # fmt: skip


def _forget_vectors(hers: Things) -> None:
    """The index has never heard of her memories either."""
    collection = do(dense.active, hers.owner).collection
    for page in index.keys(collection):
        index.remove(collection, [key for key in page if key.rpartition(":")[0] in hers.own])


def every_ask(hers: Things, his: Things) -> Iterator[Ask]:
    """Every route as it is, and with an id of hers in each place; all of a kind where the place is for that kind."""
    any_other = cycle(hers.own)
    for ask in asks(his):
        yield ask
        if ask.endpoint.creates:
            yield Ask(ask.endpoint, ask.path, ask.query, ask.body, _KEY)
        for place in ask.places():
            kind = kind_of(place, hers.ids)
            fitting = hers.ids[kind] if kind and (kind not in COMMON or place[0] == "path") else [next(any_other)]
            for one in fitting:
                if (ask.endpoint.name, place) != TAKEN:
                    yield ask.put(place, one)


def test_it_is_known_how_to_call_each_route_with_another_owner_s_ids(pair: Pair) -> None:
    assert gaps(pair.his.ids, pair.his) == [], "no rule how to call these with another owner's ids"


def test_every_route_answers_as_if_the_other_had_never_been(pair: Pair) -> None:
    wanted = list(every_ask(pair.hers, pair.his))
    with_her = pair.asked_in(pair.both, wanted)
    pair.alone.come()
    _forget_vectors(pair.hers)
    without = pair.asked_in(pair.alone, wanted)
    told = [
        f"{ask.endpoint.method} {ask.url} {ask.query} {ask.body}\n  {one}\n  {other}"
        for ask, one, other in zip(wanted, with_her, without, strict=True)
        if one != other or pair.hers.secret in one.text
    ]
    assert not told, f"{len(told)} of {len(wanted)} answers tell of another's things:\n" + "\n".join(told[:10])
    # Each route does something for its owner, or has refused him for another reason than a thing that is not there.
    lived = {ask.endpoint.name for ask, answer in zip(wanted, with_her, strict=True) if answer.http_status in LIVED}
    assert lived == {endpoint.name for endpoint in ENDPOINTS}


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_which, st.lists(st.tuples(_which, _which), min_size=1, max_size=4)), min_size=5, max_size=9))
def test_ids_of_anybody_in_several_places_tell_nothing(
    pair: Pair, drawn: list[tuple[int, list[tuple[int, int]]]]
) -> None:
    anything = [*pair.hers.own, *pair.his.own, NOBODY]
    known = asks(pair.his)
    wanted = []
    for which, put in drawn:
        ask = known[which % len(known)]
        for place, value in put:
            places = [place for place in ask.places() if (ask.endpoint.name, place) != TAKEN]
            if places:
                chosen = places[place % len(places)]
                fitting = pair.hers.ids.get(kind_of(chosen, pair.hers.ids) or "", anything)
                values = anything if value % 4 == 0 else fitting
                ask = ask.put(chosen, values[value % len(values)])
        wanted.append(ask)
    pair.compare(wanted)
