"""The documentation page: the OpenAPI document as one HTML page without scripts or requests to anyone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from flask import render_template

from api import problems
from api.openapi import Document

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a7f6f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem 1.5rem 6rem; }
nav a { margin-right: 1rem; } a { color: var(--accent); }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); } h4 { margin: 1rem 0 .25rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; } summary small { opacity: .75; }
code, .method { font-family: ui-monospace, monospace; font-size: .92em; }
.method { display: inline-block; min-width: 4.5em; font-weight: 600; color: var(--accent); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .75rem .2rem 0; }
tr + tr td { border-top: 1px solid var(--soft); } td:first-child { white-space: nowrap; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


def page(document: Document) -> str:
    """The page, as HTML. Needs an application context, for its template."""
    chapters: dict[str, list[Document]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            chapters[operation["tags"][0]].append({"method": method.upper(), "path": path, **operation})
    return render_template(
        "docs.html",
        info=document["info"],
        chapters=chapters,
        schemas=document["components"]["schemas"],
        problems=problems.titles(),
        style=_STYLE,
        kind=kind,
        name=_name,
        answer=_answer,
    )


def kind(schema: Document) -> str:
    """A JSON schema in a word or two, for example `integer, 1 to 100` or `array of TaskIn`."""
    words = _word(schema)
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if schema.get(key) is not None]
    return ", ".join([words, *bounds])


_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "minLength": "characters from",
    "maxLength": "characters to",
    "minItems": "items from",
    "maxItems": "items to",
    "format": "as",
    "default": "default",
}


def _word(schema: Document) -> str:
    if "$ref" in schema:
        return _name(schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if variants := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(kind(variant) for variant in variants))
    if schema.get("type") == "array":
        return f"array of {_word(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _name(schema: Document) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _answer(response: Document) -> str:
    """The name of what a response holds."""
    return next(_schema_names(response), "")


def _schema_names(response: dict[str, Any]) -> Iterator[str]:
    for media_type, content in response.get("content", {}).items():
        yield _name(content.get("schema", {})) or str(media_type)
