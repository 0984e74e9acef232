"""JSON Schemas of records, with what their fields mean; and a page of Markdown for each."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from lm_eval_sts.files import write_atomically
from lm_eval_sts.records.base import CONTENT_HASH, FORMAT_VERSION, Document, Record

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SHORT: Final = {"maxItems", "minItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "pattern"}
"""Keywords that a page says beside a type."""


def schema_of(kind: type[Record]) -> dict[str, Any]:
    """The JSON Schema of a record as it is written: a document's with its hash.

    Fields are described by the texts below them in the code.
    """
    schema = kind.model_json_schema()
    if issubclass(kind, Document):
        schema["properties"][CONTENT_HASH] = {
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "SHA-256 of all else, as canonical JSON: sorted keys, no spaces, 1.0 written as 1.",
        }
    if "format_version" in schema["properties"]:
        schema["properties"]["format_version"] = {"const": version(kind), "default": version(kind)}
    for name, part in ((kind.__name__, schema), *schema.get("$defs", {}).items()):
        for field, text in _described(kind).get(name, {}).items():
            part["properties"][field].setdefault("description", text)
    return {"$schema": _DIALECT, "$id": f"urn:lm-eval-sts:{slug(kind)}:{version(kind)}", **schema}


def version(kind: type[Record]) -> int:
    """The format version that this release reads and writes."""
    field = kind.model_fields.get("format_version")
    return int(FORMAT_VERSION if field is None else field.default)


def slug(kind: type[Record]) -> str:
    """What a record calls itself, as a file is named."""
    return str(kind.model_fields["kind"].default).replace(" ", "-").replace("_", "-")


def schema_text(kind: type[Record]) -> str:
    """The JSON Schema of a record, as it is published."""
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def texts(kinds: Iterable[type[Record]]) -> dict[str, str]:
    """All that is published, by path below ``docs``: a schema and a page a record, and the list of them."""
    kinds = sorted(kinds, key=slug)
    found = {f"schemas/{slug(kind)}.v{version(kind)}.schema.json": schema_text(kind) for kind in kinds}
    found |= {f"records/{slug(kind)}.md": _page(kind) for kind in kinds}
    return {**found, "records/index.md": _index(kinds)}


def write(kinds: Iterable[type[Record]], folder: Path) -> list[Path]:
    """Writes schemas and pages; schemas of earlier versions stay where they are.

    Raises:
        OSError: The folder cannot be written.
    """
    made = {folder / name: text for name, text in texts(kinds).items()}
    for path, text in made.items():
        write_atomically(path, text.encode())
    return list(made)


def _described(kind: type[Record]) -> dict[str, dict[str, str]]:
    """By record, of this one and of all that it holds, the texts below its fields."""
    return {each.__name__: _texts_in(each.__module__).get(each.__name__, {}) for each in _held(kind, {})}


def _held(annotation: Any, found: dict[type[Record], None]) -> dict[type[Record], None]:
    """The records in an annotation, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, Record) and annotation not in found:
        found[annotation] = None
        for field in annotation.model_fields.values():
            _held(field.annotation, found)
    for argument in get_args(annotation):
        _held(argument, found)
    return found


@cache
def _texts_in(module: str) -> dict[str, dict[str, str]]:
    """By class of a module the texts of its fields."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_of_fields(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield field.target.id, " ".join(value.value.replace("``", "`").split())


def _index(kinds: Iterable[type[Record]]) -> str:
    rows = [
        f"| [{slug(kind)}]({slug(kind)}.md) | {_first_line(kind)} | "
        f"[version {version(kind)}](../schemas/{slug(kind)}.v{version(kind)}.schema.json) |"
        for kind in kinds
    ]
    return "\n".join(
        [
            "# Records",
            "Everything that this package writes down is one of these, as JSON. A field that is not in the schema is",
            "refused, and so is a record of another format version; a document also carries a hash of its content,",
            "which is checked when it is read. `lm-eval-sts schemas` writes these pages and the schemas from the code;",
            "a schema's name tells the format version, and those of earlier versions stay.",
            "",
            "| record | is | JSON Schema |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _first_line(kind: type[Record]) -> str:
    return _plain((kind.__doc__ or "").split("\n\n")[0])


def _plain(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def _page(kind: type[Record]) -> str:
    schema = schema_of(kind)
    name = slug(kind)
    file = f"{name}.v{version(kind)}.schema.json"
    lines = [f"# {name}", _plain(kind.__doc__ or ""), "", f"JSON Schema: [{file}](../schemas/{file}).", ""]
    lines += _table(schema)
    for part, content in sorted(schema.get("$defs", {}).items()):
        lines += [f"## {part}", _plain(content.get("description", "")), "", *_table(content)]
    return "\n".join(lines)


def _table(schema: dict[str, Any]) -> list[str]:
    if "properties" not in schema:
        return [f"{_type(schema)}", ""]
    required = schema.get("required", ())
    rows = []
    for name, field in schema["properties"].items():
        default = "" if name in required or "default" not in field else f"`{json.dumps(field['default'])}`"
        need = "required" if name in required else default or "optional"
        rows.append(f"| `{name}` | {_type(field)} | {need} | {_plain(field.get('description', ''))} |")
    return ["| field | type | default | is |", "|---|---|---|---|", *rows, ""]


def _type(field: dict[str, Any]) -> str:
    """A field's type in words."""
    if "$ref" in field:
        part = field["$ref"].rpartition("/")[2]
        return f"[{part}](#{part.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(each) for each in field["anyOf"]))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    said = [f"{key} `{field[key]}`".replace("|", "\\|") for key in sorted(_SHORT & field.keys())]
    limits = f" ({', '.join(said)})" if said else ""
    if field.get("type") == "array":
        items = field.get("items") or {"type": "value"}
        each = [_type(one) for one in field["prefixItems"]] if "prefixItems" in field else [_type(items)]
        return f"list of {', '.join(each)}{limits}"
    if field.get("type") == "object" and isinstance(values := field.get("additionalProperties"), dict):
        return f"object of {_type(values)}{limits}"
    return f"{field.get('type', 'any')}{limits}"
