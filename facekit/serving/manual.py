"""/docs: what FastAPI's own page says, from the same description, without scripts of another host."""

from __future__ import annotations

import json
from typing import Any

from facekit.pages.shell import Html, Section, definitions, escape, folded, join, page, table
from facekit.serving.settings import Settings

EXAMPLES = (
    ("Faces as JSON", "curl --data-binary @portrait.jpg {address}/detect"),
    ("The same by a form", "curl -F picture=@portrait.jpg {address}/detect"),
    ("Faces drawn", "curl --data-binary @portrait.jpg '{address}/detect?output=annotated' -o found.jpg"),
    ("Faces covered, as PNG",
     "curl --data-binary @portrait.jpg -H 'Accept: image/png' '{address}/detect?output=anonymized' -o covered.png"),
)  # fmt: skip


def manual_page(openapi: dict[str, Any], settings: Settings, address: str = "http://127.0.0.1:8000") -> str:
    """A document that loads nothing. `openapi`: the application's description."""
    header = join([
        Html('<p class="kind">facekit serve</p>'),
        Html(f"<h1>{escape(openapi['info']['title'])} {escape(openapi['info']['version'])}</h1>"),
        Html('<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'),
    ])  # fmt: skip
    sections = [_examples(settings, address), _limits(settings)]
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            sections.append(_operation(f"{method.upper()} {path}", operation))
    shapes = folded("As JSON Schema", _code(json.dumps(openapi["components"]["schemas"], indent=1)))
    sections.append(Section("shapes", "Shapes of answers", shapes))
    return page("facekit serve", header, sections)


def _examples(settings: Settings, address: str) -> Section:
    rows = []
    for title, command in EXAMPLES:
        told = command.format(address=address)
        if settings.token is not None:
            told = told.replace("curl ", 'curl -H "Authorization: Bearer $FACEKIT_TOKEN" ')
        rows += [Html(f"<p>{escape(title)}</p>"), _code(told)]
    return Section("examples", "Examples", join(rows))


def _limits(settings: Settings) -> Section:
    facts = definitions([
        ("Bytes of a body", f"{settings.max_bytes:,}"),
        ("Pixels of a picture", f"{settings.max_pixels:,}"),
        ("Seconds", f"{settings.timeout_s:g} for a body to arrive, and as many from there to the answer"),
        ("Requests at a time", f"{settings.queue}; more are answered 503 with Retry-After"),
    ])  # fmt: skip
    return Section("limits", "Limits", facts)


def _operation(title: str, operation: dict[str, Any]) -> Section:
    parts = [Html(f"<p>{escape(operation.get('description', ''))}</p>")]
    rows = [
        [item["name"], _words(item["schema"]), item.get("description", "")] for item in operation.get("parameters", ())
    ]
    if rows:
        parts.append(table(["parameter", "value", "what it does"], [("", rows)], f"Parameters of {title}"))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        parts.append(Html(f"<p>Body: {escape(', '.join(body))}</p>"))
    answers = [
        [status, ", ".join(answer.get("content", {})), answer.get("description", "")]
        for status, answer in sorted(operation["responses"].items())
    ]
    parts.append(table(["status", "content", "when"], [("", answers)], f"Answers of {title}"))
    return Section(operation["operationId"], title, join(parts))


def _words(schema: dict[str, Any]) -> str:
    """A parameter's values in words."""
    if "anyOf" in schema:
        return ", or ".join(_words(part) for part in schema["anyOf"] if part.get("type") != "null")
    values = " / ".join(map(str, schema.get("enum", ()))) or schema.get("type", "")
    if "minimum" in schema:
        values += f" from {schema['minimum']:g} to {schema['maximum']:g}"
    return values + (f"; else {schema['default']}" if schema.get("default") is not None else "")


def _code(text: str) -> Html:
    return Html(f'<div class="wide" tabindex="0"><pre><code>{escape(text)}</code></pre></div>')
