"""The JSON Schema of lab files, for editors and other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.lab_program.lab_file.problems import inside, is_model
from pytest_dispatch.lab_program.lab_file.sections import LabFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a lab file as it is written, before variables are replaced."""
    return {"$schema": DIALECT, **LabFile.model_json_schema(mode="validation")}


def schema_text() -> str:
    """Return the JSON Schema as text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Key:
    """A key whose value is no mapping with keys of its own.

    Attributes:
        path: Its place; `N` stands for the number of a list's item, `NAME` for a name that the user gives.
        meaning: What it means.
        default: Its default as it would be written; empty if it must be given or there is nothing to write.
    """

    path: str
    meaning: str
    default: str


def keys(model: type[BaseModel] = LabFile, before: str = "") -> Iterator[Key]:
    """Yield all keys of a lab file, in order."""
    for name, field in model.model_fields.items():
        path, below = _below(model, name)
        if below is not None and below.model_fields:
            yield from keys(below, f"{before}{path}.")
        else:
            yield Key(f"{before}{path}", " ".join((field.description or "").split()), _written(field.default))


def _below(model: type[BaseModel], name: str) -> tuple[str, type[BaseModel] | None]:
    """Return the path of a key's value or of the items in it, and their model if they have one."""
    shape = inside(model, name)
    if is_model(shape):
        return name, shape
    for part, sign in ((0, "N"), ("", "NAME")):
        item = inside(shape, part)
        if is_model(item) or (part == "" and item is not None and item is not Any):
            return f"{name}.{sign}", item if is_model(item) else None
    return name, None


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return format_duration(default)
    return str(default) if isinstance(default, str | int) and not isinstance(default, SecretStr) else ""
