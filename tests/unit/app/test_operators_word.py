"""What the operator's settings allow a program: ceilings, images, networks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import Invalid
from app.programs import CodeLimits
from app.settings import settings
from app.tasks.code import ProgramPayload
from app.tasks.types import check_payload

CONTAINER: dict[str, Any] = {"image": "tools:1", "argv": ["make"]}
CODE: dict[str, Any] = {"code": "1"}


def allow(environment: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        environment.setenv(f"CLAWQ_SANDBOX_{name}", value)
    settings.cache_clear()


def refused(task_type: str, payload: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(Invalid) as caught:
        check_payload(task_type, payload)
    return {problem.loc: problem.msg for problem in caught.value.problems}


def bounds(limits: dict[str, Any]) -> dict[str, Any]:
    payload = check_payload("python", {**CODE, "limits": limits})
    assert isinstance(payload, ProgramPayload)
    return payload.bounds()


def test_a_limit_above_the_ceiling_is_refused_with_what_is_allowed(environment: pytest.MonkeyPatch) -> None:
    allow(environment, CEILING=json.dumps({"memory_mb": 128, "wall_s": 1.5, "pids": 512}))
    found = refused("shell", {**CODE, "limits": {"memory_mb": 129, "wall_s": 1.6, "pids": 512, "disk_mb": 1024}})
    assert found == {
        ("payload", "limits", "memory_mb"): "at most 128 here",
        ("payload", "limits", "wall_s"): "at most 1.5 here",
    }


def test_a_limit_that_is_not_named_is_the_default_or_the_ceiling_if_that_is_less(
    environment: pytest.MonkeyPatch,
) -> None:
    allow(environment, CEILING=json.dumps({"memory_mb": 128, "wall_s": 600, "cpu_s": 7.5}))
    defaults = CodeLimits().model_dump()
    assert bounds({}) == {**defaults, "memory_mb": 128, "cpu_s": 7.5}
    assert isinstance(bounds({})["memory_mb"], int)
    assert bounds({"memory_mb": 64, "wall_s": 500})["memory_mb"] == 64
    assert bounds({"wall_s": 500})["wall_s"] == 500


def test_without_a_ceiling_the_bounds_of_the_payload_hold(environment: pytest.MonkeyPatch) -> None:
    assert bounds({"memory_mb": 4096})["memory_mb"] == 4096


def test_a_container_names_an_image_that_is_allowed(environment: pytest.MonkeyPatch) -> None:
    assert refused("container", CONTAINER) == {("payload", "image"): "no image is allowed here"}
    allow(environment, IMAGES="tools:1, registry.example:5000/team/other@sha256:00")
    check_payload("container", CONTAINER)
    assert refused("container", {**CONTAINER, "image": "tools:2"}) == {
        ("payload", "image"): "must be one of tools:1, registry.example:5000/team/other@sha256:00"
    }


@pytest.mark.parametrize(
    ("payload", "loc"),
    [
        ({"argv": ["x"]}, "image"), ({"image": "tools:1"}, "argv"), ({"image": "tools:1", "argv": []}, "argv"),
        ({**CONTAINER, "code": "1"}, "code"), ({**CONTAINER, "image": "-v"}, "image"),
    ],
)  # fmt: skip
def test_a_container_has_an_image_and_a_command_and_no_code(
    environment: pytest.MonkeyPatch, payload: dict[str, Any], loc: str
) -> None:
    allow(environment, IMAGES="tools:1")
    assert list(refused("container", payload)) == [("payload", loc)]


def test_a_network_is_one_of_those_that_are_allowed(environment: pytest.MonkeyPatch) -> None:
    allow(environment, NETWORKS="egress,lab")
    for network in (False, "egress", "lab"):
        check_payload("python", {**CODE, "network": network})
    assert refused("python", {**CODE, "network": "bridge"}) == {
        ("payload", "network"): "must be one of false, egress, lab"
    }


def test_everything_that_is_not_allowed_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    allow(environment, CEILING='{"pids": 8}')
    found = refused("container", {**CONTAINER, "limits": {"pids": 9}, "network": "bridge"})
    assert {loc[1] for loc in found} == {"image", "limits", "network"}
