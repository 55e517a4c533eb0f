"""Instances of the application's own classes as field values, and back without running its code.

A class is stored by name (``module:qualname``) and looked up in modules that are already
imported; nothing is ever imported on behalf of stored bytes. Instances are rebuilt field by
field: neither ``__init__`` nor ``__post_init__`` runs.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from enum import Enum, Flag
from functools import cached_property, lru_cache
from types import MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import force_setattr

from hybridcore._native import new_struct
from hybridcore.codec.refusal import UnknownTypeError
from hybridcore.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DATACLASS: Final = 16
STRUCT: Final = 17
NAMEDTUPLE: Final = 18
ENUM: Final = 19


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What a class is and which fields its instances have (none for an enum)."""

    family: int
    fields: tuple[str, ...] = ()


class Classes:
    """The classes that stored values may name: those registered, then those imported."""

    def __init__(self, registered: Mapping[str, type]) -> None:
        self._registered = registered

    def find(self, name: str) -> type | None:
        """Return the class of that name; neither imports nor calls anything."""
        if name in self._registered:
            return self._registered[name]
        module_name, _, path = name.partition(":")
        module: Any = sys.modules.get(module_name)
        if not issubclass(type(module), ModuleType):
            return None
        # Not vars(module): asking a lazy module for anything else would load it.
        names = ModuleType.__getattribute__(module, "__dict__")
        found: Any = None
        for part in path.split("."):
            found = names.get(part)
            if not issubclass(type(found), type):
                return None
            names = type.__getattribute__(found, "__dict__")
        return found  # type: ignore[no-any-return]  # it is a class

    def dump(self, value: Any) -> list[Any]:
        """Return the class name, then the fields as name, value, name, value."""
        cls: Any = type(value)
        name = name_of(cls)
        found: Any = self.find(name)
        if found is not cls:
            raise UnknownTypeError(
                cls,
                "it is defined inside a function and cannot be found again by its name"
                if "<locals>" in name
                else f"its name {name} leads to something else",
                f"Define it at the top of a module, or name it in Codecs({cls.__name__})",
            )
        shape = shape_of(cls)
        if shape.family == ENUM:
            return [name, _dump_member(value)]
        if shape.family == NAMEDTUPLE:
            values = list(tuple.__iter__(value))
            if len(values) != len(shape.fields):
                raise UnknownTypeError(cls, f"its length differs from its fields {shape.fields}")
        else:
            try:
                values = [getattr(value, field) for field in shape.fields]
            except AttributeError as error:
                raise UnknownTypeError(cls, f"a field is not set ({error})") from error
        _refuse_extra_attributes(value, shape)
        parts = [name]
        for pair in zip(shape.fields, values, strict=True):
            parts += pair
        return parts

    def load(self, family: int, parts: list[Any]) -> Any:
        """Return the instance that `dump` took apart."""
        name = parts[0]
        cls = self.find(name)
        if cls is None:
            raise DecodeError(f"there is no class {name}; import its module first")
        try:
            shape = shape_of(cls)
        except UnknownTypeError as error:
            raise DecodeError(str(error)) from None
        if shape.family != family:
            raise DecodeError(f"{name} is no longer the kind of class that was stored")
        if family == ENUM:
            return _load_member(cls, *parts[1:])
        fields, values = tuple(parts[1::2]), parts[2::2]
        if fields != shape.fields or len(values) != len(fields):
            raise DecodeError(f"{name} was stored with fields {fields}, and has {shape.fields} now")
        if family == NAMEDTUPLE:
            return tuple.__new__(cls, values)
        if family == STRUCT:
            struct: Any = new_struct(cls)
            for field, item in zip(fields, values, strict=True):
                force_setattr(struct, field, item)
            return struct
        instance: Any = object.__new__(cls)
        for field, item in zip(fields, values, strict=True):
            object.__setattr__(instance, field, item)
        return instance


def by_name(classes: Iterable[type]) -> dict[str, type]:
    """Return registered classes by the name they are stored with.

    Raises:
        ConfigurationError: instances of a class cannot be stored, or two have the same name.
    """
    named: dict[str, type] = {}
    for cls in classes:
        try:
            shape_of(cls)
        except UnknownTypeError as error:
            raise ConfigurationError(str(error)) from None
        if named.setdefault(name_of(cls), cls) is not cls:
            raise ConfigurationError(f"two classes are called {name_of(cls)}; rename one")
    return named


def name_of(cls: type) -> str:
    """The name that a class is stored with."""
    return f"{cls.__module__}:{cls.__qualname__}"


@lru_cache(maxsize=1024)
def shape_of(cls: type) -> Shape:
    """Return what the class is.

    Raises:
        UnknownTypeError: not a dataclass, Struct, named tuple or enum, or one with a twist.
    """
    bases = type.__getattribute__(cls, "__mro__")
    if Enum in bases:
        return Shape(ENUM)
    if msgspec.Struct in bases[1:]:
        return Shape(STRUCT, cls.__struct_fields__)  # type: ignore[attr-defined]  # a Struct
    if tuple in bases:
        for base in bases:
            if {"_fields", "_field_defaults", "_make"} <= vars(base).keys():
                return Shape(NAMEDTUPLE, tuple(vars(base)["_fields"]))
    if "__dataclass_fields__" not in vars(cls):
        raise UnknownTypeError(cls)
    if any(inspect.isbuiltin(vars(base).get("__new__")) for base in bases if base is not object):
        raise UnknownTypeError(cls, "it is a dataclass on top of a built-in type")
    fields = tuple(field.name for field in dataclasses.fields(cls))
    for name in fields:
        attribute = inspect.getattr_static(cls, name, None)
        computed = hasattr(type(attribute), "__set__")
        if computed and not isinstance(attribute, MemberDescriptorType):
            raise UnknownTypeError(cls, f"its field {name} is computed by a descriptor")
    return Shape(DATACLASS, fields)


def _refuse_extra_attributes(value: Any, shape: Shape) -> None:
    attributes = getattr(value, "__dict__", None)
    if not attributes:
        return
    for name in attributes.keys() - set(shape.fields):
        # What a cached property remembers is computed again when asked for.
        if not isinstance(inspect.getattr_static(type(value), name, None), cached_property):
            raise UnknownTypeError(
                type(value), f"its attribute {name} is not one of the fields {shape.fields}"
            )


def _dump_member(member: Any) -> str | int:
    cls = type(member)
    if isinstance(member, Flag):
        stored: Any = member._value_
    else:
        stored = member._name_
    if type(stored) not in (str, int) or _find_member(cls, stored) is not member:
        raise UnknownTypeError(cls, f"{member!r} cannot be found again by its name or value")
    return stored  # type: ignore[no-any-return]  # str or int


def _load_member(cls: type, stored: str | int) -> Any:
    member = _find_member(cls, stored)
    if member is None:
        raise DecodeError(f"{name_of(cls)} has no member {stored!r}")
    return member


def _find_member(cls: Any, stored: str | int) -> Any:
    """The member of that name, or the flags of that value, without running application code."""
    if isinstance(stored, str):
        return cls._member_map_.get(stored)
    if not issubclass(cls, Flag):
        return None
    if stored in cls._value2member_map_:
        return cls._value2member_map_[stored]
    if cls._missing_.__func__.__module__ != "enum":
        return None
    combined = cls(stored)  # of several flags
    return combined if type(combined) is cls else None
