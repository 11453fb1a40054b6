"""Turns what pydantic says of a lab file into lines with file, line and column: what was expected, and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from pytest_dispatch.lab_program.lab_file.document import Document, Path, Problem

#: Keys whose values are secrets, also those of whole mappings: nothing written there is shown.
SECRET = frozenset({"password", "client_secret", "webhook_secret", "tokens", "url", "driver", "environment"})

_Context = Mapping[str, Any]

#: What is expected, by the type of pydantic's error.
_EXPECTED: dict[str, Callable[[_Context], str]] = {
    "bool_parsing": lambda _: "true or false",
    "bool_type": lambda _: "true or false",
    "dict_type": lambda _: "a mapping of keys to values",
    "enum": lambda context: f"one of {_without_quotes(str(context['expected']))}",
    "greater_than_equal": lambda context: f"a whole number of at least {context['ge']}",
    "int_from_float": lambda _: "a whole number",
    "int_parsing": lambda _: "a whole number",
    "int_parsing_size": lambda _: "a whole number",
    "int_type": lambda _: "a whole number",
    "less_than_equal": lambda context: f"a whole number of at most {context['le']}",
    "list_type": lambda _: "a list",
    "model_type": lambda _: "a mapping of keys to values",
    "string_too_long": lambda context: f"at most {context['max_length']} characters",
    "string_too_short": lambda _: "a text that is not empty",
    "string_type": lambda _: "a text",
    "too_short": lambda context: f"a list of at least {context['min_length']}",
    "lab_file": lambda context: str(context["expected"]).removeprefix("expected "),
}


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield what is wrong with a document, in pydantic's order.

    What stands at a place whose variable could not be replaced is left out: that is said already.
    """
    said = {path for path, _ in document.problems}
    for detail in error.errors(include_url=False, include_input=False):
        path = _real(detail["loc"])
        if path not in said:
            yield _problem(detail, path, document, model)


def _problem(detail: ErrorDetails, path: Path, document: Document, model: type[BaseModel]) -> Problem:
    if detail["type"] == "extra_forbidden":
        known = keys_of(model, path[:-1])
        return document.problem(path, f"expected {_nearest(str(path[-1]), known)}, got {path[-1]!r}", at_key=True)
    if detail["type"] == "missing":
        return document.problem(path, "expected a value, got none")
    say = _EXPECTED.get(detail["type"])
    expected = say(detail.get("ctx", {})) if say is not None else detail["msg"]
    return document.problem(path, f"expected {expected}, got {_got(detail, path, document)}")


def _got(detail: ErrorDetails, path: Path, document: Document) -> str:
    if any(part in SECRET for part in path):
        return "nothing" if document.at(path) is None else "something else, which is not shown"
    got = document.got(path)
    is_number = detail["type"] == "string_type" and got not in ("nothing", "a mapping", "a list", "an empty list")
    return f"{got}: write it in quotes" if is_number else got


def _nearest(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(key, names, 1, 0.6)
    return f"another key, such as {near[0]}" if near else f"one of {', '.join(names)}"


def _real(loc: Iterable[str | int]) -> Path:
    """Return pydantic's place without what is not of the document: `[key]` behind a key that is wrong itself."""
    parts = tuple(loc)
    return parts[:-1] if parts[-1:] == ("[key]",) else parts


def keys_of(model: type[BaseModel], path: Path) -> set[str]:
    """Return the keys that a mapping of a model may have at a path; none if there is no such mapping."""
    shape: Any = model
    for part in path:
        shape = inside(shape, part)
    return set(shape.model_fields) if is_model(shape) else set()


def inside(shape: Any, part: str | int) -> Any:
    """Return the type of what is at a key or an index of a type; None if nothing can be there."""
    if is_model(shape) and issubclass(shape, RootModel):
        shape = _plain(shape.model_fields["root"].annotation)
    if is_model(shape):
        field = shape.model_fields.get(part)
        return _plain(field.annotation) if field is not None else None
    kind, arguments = get_origin(shape), get_args(shape)
    fits = (kind is list and isinstance(part, int)) or (kind is dict and isinstance(part, str))
    return _plain(arguments[-1]) if fits else None


def _plain(shape: Any) -> Any:
    """Return a type without `Annotated` and without `None`."""
    if get_origin(shape) is Annotated:
        return _plain(get_args(shape)[0])
    if get_origin(shape) in (Union, UnionType):
        return _plain(next(each for each in get_args(shape) if each is not type(None)))
    return shape


def is_model(shape: Any) -> bool:
    """Return whether a type is a mapping with keys of its own."""
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def _without_quotes(text: str) -> str:
    return text.replace("'", "")
