"""What the scopes of a key allow."""

from __future__ import annotations

import pytest

from app.keys import SCOPES, Caller


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (set(), set()),
        ({"read"}, {"read"}),
        ({"submit"}, {"read", "submit"}),
        ({"admin"}, {"read", "submit", "admin"}),
        ({"read", "submit"}, {"read", "submit"}),
        ({"root"}, set()),
    ],
)
def test_a_scope_implies_the_lesser_ones(scopes: set[str], allowed: set[str]) -> None:
    caller = Caller("k", "ada", frozenset(scopes))
    assert {scope for scope in SCOPES if caller.may(scope)} == allowed


def test_only_an_administrator_sees_what_others_own() -> None:
    assert Caller("k", "ada", frozenset({"read", "submit"})).sees == "ada"
    assert Caller("k", "ada", frozenset({"admin"})).sees is None
