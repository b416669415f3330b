"""TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"

#: Below the range from which kernels take the ports of outgoing connections (32768 and up on Linux), so that
#: a server finds its port free when it comes back.
_FIRST, _LAST = 20_000, 29_999
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def pick(remembered: int | None = None, *, without: Collection[int] = ()) -> int:
    """The remembered port if it is still free, else a free one; in neither case one of `without`.

    Raises:
        OSError: no free port was found.
    """
    tries = random.sample(range(_FIRST, _LAST + 1), _TRIES)
    for port in [remembered, *tries] if remembered else tries:
        if port not in without and is_free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST} on {LOOPBACK}")
