"""Frozen values with keyword fields: what `@dataclass(frozen=True, kw_only=True)` gives, made without compiling code.

A dataclass compiles its methods when its module is imported, 0.35 ms each. The sixty values of this package would cost
a warm rollback a fifth of its time (ADR 0006). Type checkers see a dataclass (PEP 681).
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Self, dataclass_transform


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """Subclass, annotate fields, give immutable defaults. Equal by type and fields, hashable, changed by replace()."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = inspect.get_annotations(cls)
        cls._fields = tuple(dict.fromkeys((*cls._fields, *own)))  # a default may be another than the base has
        cls._defaults = cls._defaults | {name: cls.__dict__[name] for name in own if name in cls.__dict__}

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(self._defaults)
        self.__dict__.update(values)
        if len(self.__dict__) != len(self._fields):
            wrong = sorted(set(self._fields) ^ set(self.__dict__))
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}; check {', '.join(wrong)}")

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Their names, those of the base first."""
        return cls._fields

    def replace(self, **changes: Any) -> Self:
        return type(self)(**(self.__dict__ | changes))

    def __setattr__(self, name: str, _value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in self._fields)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"
