"""Hold a file to its model and collect every problem where it stands, not only the first.

What is wrong is noted and cut out, and the rest is read again, so that rules about several keys can still be asked of
what is right. Start at shaped(); Findings is what they add to.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxyctl.config.compose_keys import INSTEAD, INSTEAD_IN_DEPLOY
from proxyctl.config.document import Document, Location, Value, dotted, place_of, place_of_key
from proxyctl.config.fields import ALONE, LISTED, MAPPED
from proxyctl.config.problems import Place, Problem, shown
from proxyctl.config.schema import LATER

Model = TypeVar("Model", bound=BaseModel)

MOST_PROBLEMS = 500
MOST_TOLD = 30  # keys in one line

_EMPTY = "no value; write one or remove the key"
_SECRET = ("environment", "headers", "secrets")  # what stands below is never repeated in a message


class Findings:
    """The problems of one file, in its order. What lies in or around a problem is not complained of again."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: dict[Location, Problem] = {}
        self._around: set[Location] = set()

    @property
    def problems(self) -> list[Problem]:
        found = sorted([*self.document.problems, *self._found.values()], key=lambda problem: problem.place)
        if len(found) < MOST_PROBLEMS:
            return found
        told = found[:MOST_PROBLEMS]
        return [*told, told[-1]._replace(key="", wrong="there may be more; mend these first")]

    @property
    def enough(self) -> bool:
        """A file with this many problems is not a file with a mistake in it."""
        return len(self._found) >= MOST_PROBLEMS

    def value(self, location: Location, wrong: str) -> None:
        """The value there is wrong."""
        self._add(location, place_of(self.document.root, location), wrong)

    def key(self, location: Location, wrong: str) -> None:
        """The key itself is wrong, or what should stand below it is missing."""
        self._add(location, place_of_key(self.document.root, location), wrong)

    def touch(self, location: Location) -> bool:
        """Whether something in or around this location is wrong already."""
        return location in self._around or any(location[:depth] in self._found for depth in range(len(location) + 1))

    def _add(self, location: Location, place: Place, wrong: str) -> None:
        if self.enough or self.touch(location):
            return
        self._found[location] = Problem(self.document.path, place, dotted(location), wrong)
        self._around.update(location[:depth] for depth in range(len(location) + 1))


def shaped(model: type[Model], value: dict[str, Value], findings: Findings, prefix: Location = ()) -> Model:
    """What is right of this value, which is cut down to it; all that is wrong is found. `prefix`: where it stands."""
    right = _right(model, value, findings, prefix)
    empty = list(_empty(value))
    for location in empty:
        findings.key(prefix + location, _EMPTY)
        _cut(value, location)
    return _right(model, value, findings, prefix) if empty else right


def _right(model: type[Model], value: dict[str, Value], findings: Findings, prefix: Location) -> Model:
    while True:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                location = _location(detail)
                if not findings.enough:
                    _find(findings, prefix + location, detail, model, location)
                _cut(value, location)


def _find(findings: Findings, full: Location, detail: ErrorDetails, model: type[BaseModel], location: Location) -> None:
    match detail["type"]:
        case "extra_forbidden":
            findings.key(full, _unknown(str(location[-1]), _known_keys(model, location[:-1])))
        case "missing":
            findings.key(full, "missing; write it")
        case _ if detail["input"] is None:
            findings.key(full, _EMPTY)
        case _ if detail["loc"][-1] == "[key]":
            findings.key(full, _wrong(detail))
        case _ if any(part in _SECRET for part in location):
            findings.value(full, _wrong(detail))
        case _:
            findings.value(full, f"{shown(detail['input'])}: {_wrong(detail)}")


def _wrong(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type":
            return "write a mapping, such as key: value"
        case "tuple_type":
            return "write a list, such as [one, two]"
        case "too_long" | "string_too_long":
            return f"longer than {context['max_length']}; write at most that many"
        case "too_short":
            return "the list is empty; write what belongs to it or leave the key out"
        case "none_required":
            return "settings of one network are not carried; write a list of names"
        case _:
            return detail["msg"]


def _unknown(key: str, known: list[str]) -> str:
    if key in LATER:
        return "not yet in this version; remove it"
    if key in INSTEAD and "image" in known:
        return f"not a key of a container here; {INSTEAD[key]}"
    if key in INSTEAD_IN_DEPLOY and "restart_policy" in known:
        return f"not a key of a container here; {INSTEAD_IN_DEPLOY[key]}"
    if near := get_close_matches(key, known, n=1, cutoff=0.7):
        return f'unknown key; did you mean "{near[0]}"?'
    if len(known) > MOST_TOLD:
        return "unknown key, and like none that is known; remove it"
    return f"unknown key; remove it, or write one of {', '.join(known)}"


def _known_keys(annotation: Any, location: Location) -> list[str]:
    """The keys of the mapping that stands at this location of a model."""
    if not location:
        return list(dict.fromkeys(key for model in _models(annotation) for key in _written(model)))
    return [key for below in _below(annotation, location[0]) for key in _known_keys(below, location[1:])]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for option in _options(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield option


def _below(annotation: Any, part: str | int) -> Iterator[Any]:
    """The annotations of what a part of a location leads to."""
    for option in _options(annotation):
        if get_origin(option) is dict:
            yield get_args(option)[1]
        elif get_origin(option) is tuple:
            yield get_args(option)[0]
        elif isinstance(option, type) and issubclass(option, BaseModel) and part in _written(option):
            yield _written(option)[str(part)].annotation


def _written(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Its keys as they stand in a file: some are no names in Python."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _options(annotation: Any) -> Iterator[Any]:
    """A union's members, without Annotated around them."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) is None or get_origin(annotation) in (dict, tuple):
        yield annotation
    else:
        for option in get_args(annotation):
            yield from _options(option)


def _location(detail: ErrorDetails) -> Location:
    """Where it stands in the file: without the tags of forms and pydantic's mark of a key."""
    first, *rest = detail["loc"]
    return (first, *(part for part in rest if part not in (LISTED, MAPPED, ALONE, "[key]")))


def _empty(value: Value, location: Location = ()) -> Iterator[Location]:
    """Keys without a value that the model passed over as left out, except where Compose gives that a meaning."""
    if not isinstance(value, dict):
        return
    for key, below in value.items():
        if below is None and (not location or location[-1] not in ("environment", "networks")):
            yield (*location, key)
        yield from _empty(below, (*location, key))


def _cut(value: dict[str, Value], location: Location) -> None:
    """Take out what stands there; of a list that has something wrong, nothing is left."""
    first, *below = location
    inner = value.get(str(first))
    if below and isinstance(inner, dict) and below[0] in inner:
        _cut(inner, tuple(below))
    else:
        value.pop(str(first), None)
