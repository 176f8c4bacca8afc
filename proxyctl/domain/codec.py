"""Records to JSON-able values and back, by their annotations. Pure. Start at encode() and decode().

A record carries the name of its class under TAG. Decoding refuses unknown names and fields with DecodeError, so a
journal from a newer version is refused in words instead of half understood.
"""

from __future__ import annotations

import types
from enum import Enum
from functools import cache
from inspect import get_annotations
from typing import Any, Union, get_args, get_origin

from proxyctl.domain.model import Colour
from proxyctl.domain.record import Record
from proxyctl.domain.split import Split

TAG = "@"  # no field can have this name
FORGOTTEN = {"Rollout": {"bake_since"}, "Evidence": {"tolerated"}}  # fields of older versions that say nothing any more


class DecodeError(ValueError):
    """The value is not what this version writes."""


def encode(value: Any) -> Any:
    """Dicts, lists, strings, numbers, booleans and None only."""
    if isinstance(value, Record):
        return {TAG: type(value).__name__} | {name: encode(getattr(value, name)) for name in value.fields()}
    if isinstance(value, Split):
        return [value.lead.value, value.lead_share]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def decode(hint: Any, value: Any) -> Any:
    """The inverse of encode() for an annotation. Raises DecodeError."""
    try:
        return _decoder(hint)(value)
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"not a {hint}: {error}") from error


@cache
def _decoder(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(args)
    if origin is tuple:
        return _tuple(args)
    if not isinstance(hint, type):  # NewType
        return _decoder(hint.__supertype__)
    if issubclass(hint, Record):
        return _record(hint)
    if hint is Split:
        return lambda value: Split(Colour(value[0]), value[1])
    if issubclass(hint, Enum):
        return hint
    return lambda value: value


def _record(cls: type[Record]) -> Any:
    decoders: dict[str, Any] = {}

    def build(value: dict[str, Any]) -> Record:
        if not decoders:  # late: a record may hold its own kind, and most kinds are in no journal that is read
            for base in reversed(cls.__mro__):
                # Not get_type_hints: it takes four times as long, most of what a warm rollback spends on its state.
                hints = get_annotations(base, eval_str=True)
                decoders.update({name: _decoder(hint) for name, hint in hints.items() if name in cls.fields()})
        return cls(**{name: decoders[name](item) for name, item in value.items() if name not in skipped})

    skipped = {TAG} | FORGOTTEN.get(cls.__name__, set())
    return build


def _tuple(args: tuple[Any, ...]) -> Any:
    if len(args) == 2 and args[1] is Ellipsis:
        each = _decoder(args[0])
        return lambda value: tuple(each(item) for item in value)
    parts = [_decoder(arg) for arg in args]
    return lambda value: tuple(part(item) for part, item in zip(parts, value, strict=True))


def _union(args: tuple[Any, ...]) -> Any:
    records: dict[str, Any] = {arg.__name__: arg for arg in args if isinstance(arg, type) and issubclass(arg, Record)}
    others = [arg for arg in args if arg is not type(None) and arg not in records.values()]

    def choose(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, dict) and records:
            return _decoder(records[value[TAG]])(value)
        return _decoder(others[0])(value)

    return choose
