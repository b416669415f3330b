"""Schemathesis as a program of its own, told what it cannot read in the OpenAPI document: ids of things that are there.

In this process it would change how Hypothesis reports the failures of all other tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.tasks.types import TASK_TYPES
from tests.integration.api.asks import kind_of
from tests.things import Things

#: Requests to each operation, of valid and of invalid data each, beside those that the limits in its schema make.
EXAMPLES = int(os.environ.get("CLAWQ_FUZZ_EXAMPLES", "8"))
SEED = int(os.environ.get("CLAWQ_FUZZ_SEED", "1"))
TIMEOUT_S = 300 + 20 * EXAMPLES
#: Not `positive_data_acceptance`: what a schema allows may still refer to nothing, or contradict itself. And not
#: `allow_header_conformance`: a word such as `search` stands where ids do, so the router takes it for one as well.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
#: Values that a schema does not tell. Echo takes any payload.
_WORDS = {
    "task_type": [*TASK_TYPES, *["echo"] * 3 * len(TASK_TYPES)],
    "deadline": ["2100-01-01T00:00:00Z", "2100-01-01T00:00:00.5+01:00"],
    "expires_at": ["2100-01-01T00:00:00Z"],
}
#: How often a known value takes the place of one that is made up.
_OFTEN = 0.8


def run(document: Mapping[str, Any], url: str, key_text: str, things: Things, place: Path) -> str:
    """Let it loose on `url`; returns its report, which is empty if it found nothing."""
    (place / "openapi.json").write_text(json.dumps(_strict(document)))
    (place / "schemathesis.toml").write_text("\n".join(_config(document, key_text, things)))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"]
    done = subprocess.run(
        [*command, "run", "openapi.json", "--url", url, "--checks", ",".join(CHECKS), "--no-color"],
        cwd=place, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    (place / "report.txt").write_text(done.stdout + done.stderr)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _strict(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without `default` answers, so that every status must be among those that are named."""
    strict: dict[str, Any] = json.loads(json.dumps(document))
    for item in strict["paths"].values():
        for operation in item.values():
            del operation["responses"]["default"]
    return strict


def _config(document: Mapping[str, Any], key_text: str, things: Things) -> Iterator[str]:
    """Its configuration, as TOML."""
    yield f"seed = {SEED}"
    yield "continue-on-failure = true"
    # A stream may have no end: its first word is enough.
    yield "request-timeout = 10\nmax-stream-events = 1"
    yield f'headers = {{ Authorization = "Bearer {key_text}" }}'
    # NUL is refused wherever it comes, and would come nearly everywhere.
    words = f'mode = "all", max-examples = {EXAMPLES}, database = "none", allow-x00 = false'
    yield f"generation = {{ {words} }}"
    known = things.ids | _WORDS | {"dependencies": [things.one("task_id")]}
    for kind, values in known.items():
        yield f"[dictionaries.{kind}]\nvalues = {json.dumps(values)}"
    yield '[parameters]\n"query.wait" = 0'
    for parameter in sorted(_parameters(document)):
        name = parameter.rpartition(".")[2].removesuffix("[*]")
        if kind := name if name in known and name not in things.ids else kind_of((name,), things.ids):
            yield f'"{parameter}" = {{ dictionary = "{kind}", probability = {_OFTEN} }}'


def _parameters(document: Mapping[str, Any]) -> set[str]:
    """All parameters and texts in bodies, as its configuration names them: `path.task_id`, `body.tasks[*].id`."""
    schemas = document["components"]["schemas"]
    found = set()
    for item in document["paths"].values():
        for operation in item.values():
            found |= {f"{parameter['in']}.{parameter['name']}" for parameter in operation["parameters"]}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                found |= set(_texts(content["schema"], schemas, "body", ()))
    return found


def _texts(schema: Mapping[str, Any], schemas: Mapping[str, Any], where: str, seen: tuple[str, ...]) -> Iterator[str]:
    if (name := schema.get("$ref", "").rpartition("/")[2]) and name not in seen:
        yield from _texts(schemas[name], schemas, where, (*seen, name))
    for variant in schema.get("anyOf", ()):
        yield from _texts(variant, schemas, where, seen)
    for name, inner in schema.get("properties", {}).items():
        yield from _texts(inner, schemas, f"{where}.{name}", seen)
    if "items" in schema:
        yield from _texts(schema["items"], schemas, f"{where}[*]", seen)
    if schema.get("type") == "string":
        yield where
