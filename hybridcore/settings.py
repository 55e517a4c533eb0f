"""`Settings`: all that a hybrid cache is configured with, from keywords, a mapping or TOML."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, NoneType, SimpleNamespace, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from hybridcore.config import EntryOptions, Memory, Rules, Strategy
from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

    from hybridcore.breaker import Breaker
    from hybridcore.bulkhead import Bulkhead
    from hybridcore.disk import Lmdb
    from hybridcore.disk.admission import Admission
    from hybridcore.disk.durability import Durability
    from hybridcore.eviction import Weights
    from hybridcore.features import Feature
    from hybridcore.invalidation.retention import Retention
    from hybridcore.patterns import Pattern
    from hybridcore.retry import Retry

T = TypeVar("T")

PREFIX = "HYBRIDCORE_"
"""What the names of environment variables begin with; the section and the key follow."""

_OTHER_VARIABLES = {"HYBRIDCORE_DISABLE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk tier of a hybrid cache: the options of `Lmdb`."""

    directory: str
    max_bytes: Size = "1GiB"
    durability: Durability = "process"
    sweep: Duration | None = "1m"
    weights: Weights | None = None
    admission: Admission | None = None

    def open(self) -> Lmdb[Any, Any]:
        """Open it; raises what `Lmdb` raises."""
        from hybridcore.disk import Lmdb

        return Lmdb(
            self.directory,
            max_bytes=self.max_bytes,
            durability=self.durability,
            sweep=self.sweep,
            weights=self.weights,
            admission=self.admission,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `HybridCache` is configured with, but for the origin; a tree of sections.

    - ``memory``: `Memory`, or None for no such tier
    - ``disk``: `Disk`, or None
    - ``strategy``: what misses and writes do to the origin
    - ``defaults``: `EntryOptions` of all entries
    - ``rules``: by key pattern, the `EntryOptions` that differ
    - ``breaker``, ``bulkhead``, ``retry``: what guards the origin; None: nothing does
    - ``features``: by name, whether the cache has the feature on
    - ``retention``: how much of the log of invalidations is kept

    A section may be given as a mapping as well. Text "none" stands for None, which TOML lacks.

    >>> settings = Settings(memory={"maxsize": "256MiB"}, defaults={"ttl": "5m"})
    >>> settings.memory.maxsize, settings.defaults.ttl
    ('256MiB', 300.0)

    Raises:
        ConfigurationError: an unknown key, with the nearest one there is; a wrong type; options
            that contradict each other. Says where.
    """

    memory: Memory | None = field(default_factory=lambda: Memory("64MiB"))
    disk: Disk | None = None
    strategy: Strategy = "read_through"
    defaults: EntryOptions = field(default_factory=EntryOptions)
    rules: Mapping[Pattern, EntryOptions] = field(default_factory=dict)
    breaker: Breaker | None = None
    bulkhead: Bulkhead | None = None
    retry: Retry | None = None
    features: Mapping[Feature, bool] = field(default_factory=dict)
    retention: Retention | None = None

    def __post_init__(self) -> None:
        for name in _names(Settings):
            value = getattr(self, name)
            if value is not None:
                value = _convert(value, _hint(Settings, name), _Place(None, (name,)))
                object.__setattr__(self, name, value)
        if None in (self.strategy, self.defaults, self.rules, self.features):
            raise ConfigurationError("strategy, defaults, rules and features cannot be None")
        if self.memory is None and self.disk is None:
            raise ConfigurationError(
                "a hybrid cache without memory and disk holds nothing: configure one of them"
            )
        Rules(self.defaults, self.rules)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Read a TOML file; variables such as ``HYBRIDCORE_MEMORY_MAXSIZE`` go before it.

        Args:
            environ: the variables, by default those of this process.

        Raises:
            ConfigurationError: the file is no TOML or says something that makes no sense.
            OSError: it cannot be read.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:  # of TOML, or of UTF-8
            raise ConfigurationError(f"{os.fspath(path)}: {error}") from None
        return cls.of(table, environ=os.environ if environ is None else environ, source=path)

    @classmethod
    def of(
        cls,
        table: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        source: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Take over a mapping of sections, and what variables say instead.

        Args:
            environ: the variables, by default none.
            source: where the mapping comes from, for messages.
        """
        place = _Place(None if source is None else os.fspath(source), ())
        if environ:
            table = _overridden(table, environ, place)
        return _section(cls, table, place)


class _Place(NamedTuple):
    """Where a value was found, for messages."""

    source: str | None
    keys: tuple[str, ...]

    def at(self, key: object) -> _Place:
        return _Place(self.source, (*self.keys, str(key)))

    def refuse(self, what: object) -> ConfigurationError:
        """The error to raise."""
        return ConfigurationError(
            ": ".join(part for part in (self.source, str(self), str(what)) if part)
        )

    def __str__(self) -> str:
        return ".".join(key if re.fullmatch(r"[\w-]+", key) else f'"{key}"' for key in self.keys)


class _Variable(NamedTuple):
    """What an environment variable says."""

    name: str
    text: str


class _Homes(dict[str, Any]):
    """What annotations name, from where it is at home; imported when a value is given."""

    def __missing__(self, name: str) -> Any:
        return getattr(import_module(_HOMES[name]), name)


_HOMES = {
    "Callable": "collections.abc",
    "Adaptive": "hybridcore.eviction",
    "Weights": "hybridcore.eviction",
    "Admission": "hybridcore.disk.admission",
    "Durability": "hybridcore.disk.durability",
    "Feature": "hybridcore.features",
    "Pattern": "hybridcore.patterns",
    "Breaker": "hybridcore.breaker",
    "Bulkhead": "hybridcore.bulkhead",
    "Retry": "hybridcore.retry",
    "Retention": "hybridcore.invalidation.retention",
    "Duration": "hybridcore.units",
}


def _names(section: Any) -> list[str]:
    """The keys of a section: what its class is made with."""
    return list(inspect.signature(section).parameters)


def _hint(section: Any, name: str) -> Any:
    """The type of one key, so that nothing is imported for the others."""
    made_with = section.__init__
    only = SimpleNamespace(__annotations__={name: made_with.__annotations__[name]})
    return get_type_hints(only, made_with.__globals__, _Homes())[name]


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _section(kind: type[T], table: Any, place: _Place) -> T:
    """Make a section of a table."""
    if not isinstance(table, Mapping):
        raise place.refuse(
            f"expected a table with keys such as {_names(kind)[0]}, got {_shown(table)}"
        )
    names = _names(kind)
    for key in table:
        if key not in names:
            raise _unknown(key, names, place)
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is parameter.empty and name not in table:
            raise place.at(name).refuse("is missing, and has no default")
    values = {
        name: _convert(value, _hint(kind, name), place.at(name)) for name, value in table.items()
    }
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise place.refuse(error) from None


def _convert(value: Any, hint: Any, place: _Place) -> Any:
    """The value as the type that is wanted, or an error that says what is."""
    kinds = _kinds(hint)
    if isinstance(value, _Variable):
        place, value = _Place(value.name, ()), _from_text(value.text, kinds)
    if NoneType in kinds and (value is None or value == "none"):
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if set(kinds) in ({float, str}, {int, str}):
        try:
            seconds(value) if float in kinds else size_in_bytes(value)
        except ConfigurationError as error:
            raise place.refuse(error) from None
        return value
    kind: Any = kinds[0]
    if is_dataclass(kind):
        section: Any = kind
        return value if type(value) is section else _section(section, value, place)
    if get_origin(kind) is Literal:
        return _one_of(value, get_args(kind), place)
    if get_origin(kind) is Mapping:
        return _table(value, kind, place)
    if kind in _SCALARS:
        wanted, types = _SCALARS[kind]
        if isinstance(value, types) and (kind is bool or not isinstance(value, bool)):
            return value
        raise place.refuse(f"expected {wanted}, got {_shown(value)}")
    if place.source is not None:
        raise place.refuse("can be given in Python only, as it is no text and no number")
    return value


_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
}


def _table(value: Any, hint: Any, place: _Place) -> Mapping[Any, Any]:
    """A table whose keys are not known beforehand, such as the rules."""
    if not isinstance(value, Mapping):
        raise place.refuse(f"expected a table, got {_shown(value)}")
    key_kind, kind = get_args(hint)
    names = get_args(key_kind) if get_origin(key_kind) is Literal else None
    for key in value:
        if names is not None and key not in names:
            raise _unknown(key, names, place)
    return MappingProxyType(
        {key: _convert(item, kind, place.at(key)) for key, item in value.items()}
    )


def _one_of(value: Any, words: tuple[str, ...], place: _Place) -> str:
    if value in words:
        return str(value)
    raise place.refuse(f"expected one of {', '.join(words)}, got {_shown(value)}")


def _unknown(key: object, names: Iterable[str], place: _Place) -> ConfigurationError:
    names = list(names)
    near = get_close_matches(str(key), names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return place.refuse(f"there is no key {key!r} here; {hint}")


def _shown(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


# -- environment variables ----------------------------------------------------------------------


def _overridden(
    table: Mapping[str, Any], environ: Mapping[str, str], place: _Place
) -> Mapping[str, Any]:
    """The table with the values of variables in it."""
    wanted = {
        name: text
        for name, text in environ.items()
        if name.startswith(PREFIX) and name not in _OTHER_VARIABLES
    }
    if not wanted:
        return table
    paths = dict(_variables(Settings, ()))
    table = dict(table)
    for name, text in sorted(wanted.items()):
        if name not in paths:
            near = get_close_matches(name, paths, 1)
            hint = f"did you mean {near[0]}?" if near else "see Settings for what there is"
            raise ConfigurationError(f"there is no environment variable {name}; {hint}")
        *sections, key = paths[name]
        level, at = table, place
        for section in sections:
            at = at.at(section)
            below = level.get(section)
            if below in (None, "none"):
                below = {}
            if not isinstance(below, Mapping):
                raise at.refuse(f"expected a table, got {_shown(below)}")
            level[section] = below = dict(below)
            level = below
        level[key] = _Variable(name, text)
    return table


def _variables(section: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variables there are, and where in the tree each belongs."""
    for name in _names(section):
        hint = _hint(section, name)
        kind = next(kind for kind in _kinds(hint) if kind is not NoneType)
        if is_dataclass(kind):
            yield from _variables(kind, (*path, name))
            continue
        here = [(*path, name)]
        if get_origin(kind) is Mapping:
            words = get_args(get_args(kind)[0])
            here = [(*path, name, word) for word in words if isinstance(word, str)]
        elif kind not in _SCALARS and get_origin(kind) is not Literal:
            continue
        for keys in here:
            yield PREFIX + "_".join(keys).upper(), keys


def _from_text(text: str, kinds: tuple[Any, ...]) -> Any:
    """What a variable says, as one of these types if it can be read as such."""
    if bool in kinds:
        return _WORDS.get(text.strip().lower(), text)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


_WORDS = {"true": True, "on": True, "yes": True, "1": True} | {
    "false": False,
    "off": False,
    "no": False,
    "0": False,
}
