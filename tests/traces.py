"""Traces: what files still hold of a memory, whatever they call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

#: Chroma rounds vectors once more.
_CLOSE = 2e-6
#: A database breaks a vector at the ends of its pages, but not in each of these parts.
_PARTS = 4


def traces(place: Path, memory_id: str, vector: Any) -> dict[str, tuple[int, int]]:
    """The files below `place` that hold the memory's id or its vector, and how often each."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        data = path.read_bytes()
        times = (data.count(memory_id.encode()), _vectors(data, np.asarray(vector, dtype=np.float32)))
        if any(times):
            found[str(path.relative_to(place))] = times
    return found


def _vectors(data: bytes, vector: Any) -> int:
    parts = [part for part in np.array_split(vector, _PARTS) if np.count_nonzero(part) >= 2]
    assert len(parts) == _PARTS, "this vector is too empty to be told from others"
    return max(sum(_matches(data[offset:], part) for offset in range(4)) for part in parts)


def _matches(data: bytes, wanted: Any) -> int:
    numbers = np.frombuffer(data[: len(data) // 4 * 4], dtype="<f4")
    (steps,) = np.nonzero(wanted)
    if len(numbers) < len(wanted):
        return 0
    with np.errstate(invalid="ignore", over="ignore"):
        last = len(numbers) - len(wanted) + 1
        (places,) = np.nonzero(np.abs(numbers[steps[0] : steps[0] + last] - wanted[steps[0]]) < _CLOSE)
        for step in range(len(wanted)):
            places = places[np.abs(numbers[places + step] - wanted[step]) < _CLOSE]
    return len(places)
