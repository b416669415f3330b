import marshal
from dataclasses import replace
from typing import Any

import pytest

from workers.sandbox.job import encode_job, problem
from workers.sandbox.spec import Limits, SandboxSpec

GOOD = SandboxSpec(name="t-1", language="python", code="print(1)")


def test_a_good_spec_has_no_problem() -> None:
    assert problem(GOOD) is None
    assert problem(replace(GOOD, code=None, argv=("ls",), files={"a/b.txt": b""}, env={"A": "b"})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"},
        {"name": ""},
        {"code": None},
        {"argv": ("ls",)},
        {"code": None, "argv": ()},
        {"args": ("a\0b",)},
        {"args": ("x" * 200_000,)},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"code": "\ud800"},
        {"stdin": "\ud800"},
        {"files": {"/etc/passwd": b""}},
        {"files": {"../x": b""}},
        {"files": {"a/../../x": b""}},
        {"files": {"a//b": b""}},
        {"files": {"": b""}},
        {"files": {"x\0": b""}},
        {"files": {"x": bytes(80 << 20)}},
        {"limits": Limits(wall_s=0)},
        {"limits": Limits(wall_s=float("nan"))},
        {"limits": Limits(cpu_s=float("inf"))},
        {"limits": Limits(pids=-1)},
        {"limits": Limits(memory_mb=4)},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_bad_spec_has_one(change: dict[str, Any]) -> None:
    sentence = problem(replace(GOOD, **change))
    assert sentence is not None
    assert sentence.endswith(".")


def test_the_code_is_the_main_file_and_wins_over_a_file_of_that_name() -> None:
    job = marshal.loads(encode_job(replace(GOOD, files={"main.py": b"other", "data": b"\xff"})))
    assert job["files"] == {"main.py": b"print(1)", "data": b"\xff"}
