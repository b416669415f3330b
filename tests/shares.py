"""Shares: what `pytest -n 2` gives to one of its processes in one piece, longest first.

Each process has engines of its own. A file is a share; some files are one together: they use the same stack, or look at
the machine as a whole.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: How the names of tests of a share begin, in the order in which shares are handed out; the longest that fits counts.
_SHARES = (
    # Counts networks, processes and memory of the machine.
    ("tests/integration/sandbox/",),
    # The stack with short leases.
    ("tests/acceptance/",),
    # The rig.
    ("tests/chaos/",),
    ("tests/acceptance/test_sandboxes",),
    # Both want the port that is the default.
    ("tests/acceptance/test_stack", "tests/acceptance/test_demo"),
    ("tests/chaos/test_sandboxes",),
)


class Shares(LoadScopeScheduling):
    """Hands out shares, in the order in which the tests were collected."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        rank = _rank(nodeid)
        return str(rank) if rank < len(_SHARES) else super()._split_scope(nodeid)


def by_share(item: pytest.Item) -> int:
    """For sorting: the place of a test's share."""
    return _rank(item.nodeid)


def _rank(nodeid: str) -> int:
    fitting = [(len(start), n) for n, share in enumerate(_SHARES) for start in share if nodeid.startswith(start)]
    return max(fitting)[1] if fitting else len(_SHARES)
