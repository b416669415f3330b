"""What the payload of each task type may hold."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from app.errors import Invalid
from app.programs import MAX_WORDS_BYTES, ProgramType
from app.queues import Queue
from app.tasks.code import MAX_FILES, MAX_FILES_BYTES, CodePayload, ProgramPayload
from app.tasks.types import TASK_TYPES, check_payload

CODE_TYPES = [name for name, kind in TASK_TYPES.items() if kind.payload is CodePayload]


def locs(task_type: str, payload: Any) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        check_payload(task_type, payload)
    return [problem.loc for problem in caught.value.problems]


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        check_payload("perl", {})
    (problem,) = caught.value.problems
    assert problem.loc == ("task_type",)
    assert all(name in problem.msg for name in TASK_TYPES)


@pytest.mark.parametrize("payload", [{}, {"a": [1, 2.5, None, {"b": True}]}, {"": ""}])
def test_echo_takes_any_object(payload: dict[str, Any]) -> None:
    check_payload("echo", payload)


@pytest.mark.parametrize("payload", [None, [], "text", 3])
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_no_type_takes_what_is_not_an_object(task_type: str, payload: Any) -> None:
    assert locs(task_type, payload)[0][0] == "payload"


@pytest.mark.parametrize("task_type", CODE_TYPES)
class TestCode:
    def test_everything_that_is_allowed_at_once(self, task_type: str) -> None:
        check_payload(
            task_type,
            {
                "code": "print(1)", "stdin": "in", "args": ["-v", ""], "env": {"_A1": "x"}, "network": False,
                "files": {"a.txt": "text", "deep/er/b.bin": {"base64": base64.b64encode(b"\0\xff").decode()}},
                "limits": {"wall_s": 0.5, "cpu_s": 1, "memory_mb": 16, "pids": 1, "disk_mb": 1, "file_mb": 1,
                           "open_files": 16, "output_kb": 1},
            },
        )  # fmt: skip
        check_payload(task_type, {"argv": ["ls", "-l"]})

    @pytest.mark.parametrize("payload", [{}, {"code": "1", "argv": ["x"]}, {"code": ""}, {"argv": []}])
    def test_exactly_one_of_code_and_argv_is_given(self, task_type: str, payload: dict[str, Any]) -> None:
        assert locs(task_type, payload)

    @pytest.mark.parametrize(
        ("limit", "value"),
        [
            ("wall_s", 0), ("wall_s", -1), ("wall_s", 3600.1), ("wall_s", float("nan")), ("wall_s", float("inf")),
            ("cpu_s", 0), ("cpu_s", 3601), ("memory_mb", 15), ("memory_mb", 4097), ("pids", 0), ("pids", 513),
            ("disk_mb", 0), ("disk_mb", 1025), ("output_kb", 0), ("output_kb", 4097), ("memory_mb", 20.5),
            ("file_mb", 0), ("file_mb", 1025), ("open_files", 15), ("open_files", 4097),
            ("gpus", 1),
        ],
    )  # fmt: skip
    def test_a_limit_beyond_what_a_host_gives_is_refused(self, task_type: str, limit: str, value: Any) -> None:
        assert locs(task_type, {"code": "1", "limits": {limit: value}}) == [("payload", "limits", limit)]

    def test_all_problems_are_told_at_once(self, task_type: str) -> None:
        found = locs(task_type, {"code": 1, "limits": {"pids": 0, "wall_s": 0}, "unknown": 1})
        assert {loc[1] for loc in found} == {"code", "limits", "unknown"}
        assert len(found) == 4

    @pytest.mark.parametrize(
        "name",
        [
            "", ".", "..", "../x", "a/../b", "a/..", "/etc/passwd", "//x", "a//b", "./a", "a/", "a/./b", "a\0b",
            "n" * 256, "é" * 128,
        ],
    )  # fmt: skip
    def test_a_file_name_that_is_no_plain_relative_path_is_refused(self, task_type: str, name: str) -> None:
        assert locs(task_type, {"code": "1", "files": {name: "x"}})

    @pytest.mark.parametrize("name", ["a", ".hidden", "a b", "...", "a/b/c.txt", "ä/ö", "n" * 255, "..a/b.."])
    def test_a_plain_relative_path_is_a_file_name(self, task_type: str, name: str) -> None:
        check_payload(task_type, {"code": "1", "files": {name: "x"}})

    def test_a_file_cannot_lie_under_another_file(self, task_type: str) -> None:
        assert locs(task_type, {"code": "1", "files": {"a": "x", "a/b": "y"}})

    def test_out_is_a_directory_so_files_lie_only_below_it(self, task_type: str) -> None:
        assert locs(task_type, {"argv": ["ls"], "files": {"out": "x"}})
        check_payload(task_type, {"argv": ["ls"], "files": {"out/a": "x", "outer": "x", "a/out": "x"}})

    @pytest.mark.parametrize("name", ["main.py", "main.sh", "main.js", "main.py/x", "main.js/a/b"])
    def test_no_file_takes_the_place_of_the_code(self, task_type: str, name: str) -> None:
        assert locs(task_type, {"code": "1", "files": {name: "x"}})
        check_payload(task_type, {"argv": ["ls"], "files": {name: "x"}})
        check_payload(task_type, {"code": "1", "files": {f"lib/{name}": "x", "main.pyc": "x"}})

    def test_arguments_and_environment_fit_what_the_kernel_takes(self, task_type: str) -> None:
        word = "é" * 5000
        fitting = (MAX_WORDS_BYTES - 2) // (len(word.encode()) + 1)
        rest = MAX_WORDS_BYTES - 2 - fitting * (len(word.encode()) + 1)
        argv, args = [word] * (fitting - 1), [word]
        check_payload(task_type, {"argv": argv, "args": args, "env": {"A": "x" * (rest - 1)}})
        assert locs(task_type, {"argv": argv, "args": args, "env": {"A": "x" * rest}})
        assert locs(task_type, {"argv": argv, "args": args, "env": {"AB": "x" * (rest - 1)}})

    @pytest.mark.parametrize("text", ["%%%", "YQ", "YQ==\n", "YQ==YQ", "é"])
    def test_a_file_that_is_not_base64_is_refused(self, task_type: str, text: str) -> None:
        assert locs(task_type, {"code": "1", "files": {"a": {"base64": text}}})

    def test_files_have_a_number_and_a_size_they_may_not_pass(self, task_type: str) -> None:
        check_payload(task_type, {"code": "1", "files": {str(n): "" for n in range(MAX_FILES)}})
        assert locs(task_type, {"code": "1", "files": {str(n): "" for n in range(MAX_FILES + 1)}})
        piece = "é" * 400_000  # 800 kB each: the bound counts bytes, not characters
        fitting = MAX_FILES_BYTES // len(piece.encode())
        check_payload(task_type, {"code": "1", "files": {str(n): piece for n in range(fitting)}})
        assert locs(task_type, {"code": "1", "files": {str(n): piece for n in range(fitting + 1)}})

    @pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A\n", "Ä"])
    def test_an_environment_name_is_an_identifier(self, task_type: str, name: str) -> None:
        assert locs(task_type, {"code": "1", "env": {name: "x"}})

    @pytest.mark.parametrize("payload", [{"args": ["a\0"]}, {"env": {"A": "\0"}}])
    def test_arguments_and_environment_hold_no_nul(self, task_type: str, payload: dict[str, Any]) -> None:
        assert locs(task_type, {"code": "1", **payload})

    @pytest.mark.parametrize("network", [True, "host", "egress", "container:db", "", None])
    def test_there_is_no_network_to_ask_for(self, task_type: str, network: Any) -> None:
        assert {loc[:2] for loc in locs(task_type, {"code": "1", "network": network})} == {("payload", "network")}

    def test_code_names_no_image(self, task_type: str) -> None:
        assert locs(task_type, {"code": "1", "image": "python:3.11-slim"}) == [("payload", "image")]


def test_files_arrive_as_the_bytes_that_were_sent() -> None:
    payload = CodePayload.model_validate({"code": "1", "files": {"t": "é\n", "b": {"base64": "AP8="}}})
    assert payload.file_bytes() == {"t": b"\xc3\xa9\n", "b": b"\x00\xff"}


def test_every_type_has_a_queue_and_only_code_needs_a_sandbox() -> None:
    assert {kind.queue for kind in TASK_TYPES.values()} <= set(Queue)
    programs = {name for name, kind in TASK_TYPES.items() if issubclass(kind.payload, ProgramPayload)}
    assert {name for name, kind in TASK_TYPES.items() if not kind.inline} == programs == {*CODE_TYPES, "container"}
    assert programs == set(ProgramType.__args__)
