"""The origin that asks the loader whose key pattern matches, and another origin for the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hybridcore.errors import ConfigurationError, NotFoundError
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.callable import _acall, _call, _is_async, _unwrap
from hybridcore.origins.context import LoadContext
from hybridcore.origins.threads import run_blocking
from hybridcore.patterns import KeyPattern, Pattern, PatternTable
from hybridcore.types import Answer, NotFound, Validators, Written

if TYPE_CHECKING:
    from hybridcore.stats import OriginUsage

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])

Answers = dict[Any, Answer[Any] | Exception]
Wanted = Mapping[Any, Validators | None]


class Loaders(Origin[K, V]):
    """An origin of loaders, each for the keys of one pattern; the most specific one is asked.

    A loader is a function, sync or async. Of its parameters, those named like a field of the
    pattern get what the key has there, and the one other that it requires gets the `LoadContext`.
    It returns a value (None is one), one of the answers of the context, or raises.

    The bulk twin of a pattern is asked for several keys at once: it gets a list of contexts and
    returns a mapping of keys to values or answers. A key that it lacks does not exist, and one
    that has an exception failed by itself.

    Args:
        origin: asked for keys that no pattern matches, and written to; without it such keys do
            not exist, and nothing can be written.

    >>> loaders = Loaders()
    >>> @loaders.register("user:{id:int}")
    ... def user(id):
    ...     return {"id": id}
    >>> loaders.load("user:7").value
    {'id': 7}
    """

    def __init__(self, origin: Origin[K, V] | None = None) -> None:
        self.origin = origin
        self.name = "loaders" if origin is None else origin.name
        self._table = PatternTable[_Loader]()
        self._changing = Lock()

    def register(self, pattern: Pattern, *, many: bool = False) -> Callable[[F], F]:
        """Decorate the loader of a pattern, or with ``many`` its bulk twin.

        Raises:
            ConfigurationError: the pattern is malformed or has such a loader already, or the
                function does not take what it would be given; nothing was changed.
        """
        compiled = KeyPattern(pattern)

        def decorate(function: F) -> F:
            prepared = (_bulk if many else _single)(function, compiled)
            with self._changing:
                known = dict(self._table).get(pattern)
                loader = known or _Loader(pattern)
                if (loader.many if many else loader.single) is not None:
                    raise ConfigurationError(
                        f"the key pattern {pattern!r} has a {'bulk ' if many else ''}loader already"
                    )
                if known is None:
                    self._table.add(compiled, loader)
                if many:
                    loader.many = prepared
                else:
                    loader.single = prepared
            return function

        return decorate

    def covers(self, key: object) -> bool:
        """Whether some loader, or the origin below, is there to be asked for the key."""
        return self.origin is not None or self._table.find(key) is not None

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        found = self._table.find(key)
        if found is None:
            return NotFound() if self.origin is None else self.origin.load(key, held)
        loader, args = found
        return loader.load(LoadContext(key, args, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        found = self._table.find(key)
        if found is None:
            return NotFound() if self.origin is None else await self.origin.aload(key, held)
        loader, args = found
        return await loader.aload(LoadContext(key, args, held))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        answers: Answers = {}
        for batch in self._batches(wanted):
            answers |= batch.load()
        return {key: answers[key] for key in wanted}

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        import asyncio

        wanted = held_by_key(keys)
        answers: Answers = {}
        for part in await asyncio.gather(*(batch.aload() for batch in self._batches(wanted))):
            answers |= part
        return {key: answers[key] for key in wanted}

    def store(self, key: K, value: V) -> Written[V]:
        return self._written().store(key, value)

    async def astore(self, key: K, value: V) -> Written[V]:
        return await self._written().astore(key, value)

    def delete(self, key: K) -> None:
        self._written().delete(key)

    async def adelete(self, key: K) -> None:
        await self._written().adelete(key)

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return self._written().store_many(items)

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return await self._written().astore_many(items)

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._written().delete_many(keys)

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._written().adelete_many(keys)

    def does_many(self, method: str) -> bool:
        if method == "load_many":
            return True
        return self.origin is not None and self.origin.does_many(method)

    @property
    def writable(self) -> bool:
        return self.origin is not None and self.origin.writable

    @property
    def takes_entries(self) -> bool:  # type: ignore[override]  # as the origin says
        return self.origin is not None and self.origin.takes_entries

    def usage(self) -> OriginUsage | None:
        return None if self.origin is None else self.origin.usage()

    def close(self) -> None:
        if self.origin is not None:
            self.origin.close()

    async def aclose(self) -> None:
        if self.origin is not None:
            await self.origin.aclose()

    def __repr__(self) -> str:
        return f"Loaders({[pattern for pattern, _ in self._table]!r}, {self.origin!r})"

    def _written(self) -> Origin[K, V]:
        if self.origin is None:
            raise self._read_only("give the cache an origin beside its loaders")
        return self.origin

    def _batches(self, wanted: Wanted) -> Iterable[_Batch]:
        """The keys sorted by who is asked for them; what nobody loads is in a batch of nobody."""
        batches: dict[_Loader | None, _Batch] = {}
        for key, held in wanted.items():
            loader, args = self._table.find(key) or (None, {})
            if loader not in batches:
                batches[loader] = _Batch(loader, self.origin, self.parallel)
            batches[loader].contexts.append(LoadContext(key, args, held))
            batches[loader].wanted[key] = held
        return batches.values()


class _Loader:
    """The functions of one pattern; one of them at least is there."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.single: Callable[..., Any] | None = None
        self.many: Callable[..., Any] | None = None

    def load(self, context: LoadContext) -> Answer[Any]:
        if self.single is None:
            return _unwrap(self.load_many([context])[context.key])
        try:
            return context.answer(_call(self.single, context))
        except NotFoundError:
            return NotFound()

    async def aload(self, context: LoadContext) -> Answer[Any]:
        if self.single is None:
            return _unwrap((await self.aload_many([context]))[context.key])
        try:
            return context.answer(await _acall(self.single, context))
        except NotFoundError:
            return NotFound()

    def load_many(self, contexts: list[LoadContext]) -> Answers:
        assert self.many is not None
        return self._answers(contexts, _call(self.many, contexts))

    async def aload_many(self, contexts: list[LoadContext]) -> Answers:
        assert self.many is not None
        return self._answers(contexts, await _acall(self.many, contexts))

    def _answers(self, contexts: list[LoadContext], found: object) -> Answers:
        if not isinstance(found, Mapping):
            raise TypeError(
                f"the bulk loader of {self.pattern!r} is expected to return a mapping of the keys "
                f"it found to their values, got {type(found).__name__}"
            )
        answers: Answers = {}
        for context in contexts:
            try:
                value = found[context.key] if context.key in found else NotFound()
                answers[context.key] = context.answer(_unwrap(value))
            except NotFoundError:
                answers[context.key] = NotFound()
            except Exception as error:  # one failing key must not lose the others
                answers[context.key] = error
        return answers


class _Batch:
    """The keys of one call that one loader, or the origin below, is asked for."""

    def __init__(
        self, loader: _Loader | None, origin: Origin[Any, Any] | None, parallel: int
    ) -> None:
        self.loader = loader
        self.origin = origin
        self.parallel = parallel
        self.contexts: list[LoadContext] = []
        self.wanted: dict[Any, Validators | None] = {}

    def load(self) -> Answers:
        try:
            if self.loader is None:
                return (
                    self._missing() if self.origin is None else self.origin.load_many(self.wanted)
                )
            if self.loader.many is not None:
                return self.loader.load_many(self.contexts)
        except Exception as error:  # one failing batch must not lose the others
            return dict.fromkeys(self.wanted, error)
        assert self.loader.single is not None
        if _is_async(self.loader.single):
            return run_blocking(self._at_once())
        answers: Answers = {}
        for context in self.contexts:
            try:
                answers[context.key] = self.loader.load(context)
            except Exception as error:  # one failing key must not lose the others
                answers[context.key] = error
        return answers

    async def aload(self) -> Answers:
        try:
            if self.loader is None:
                if self.origin is None:
                    return self._missing()
                return await self.origin.aload_many(self.wanted)
            if self.loader.many is not None:
                return await self.loader.aload_many(self.contexts)
        except Exception as error:  # one failing batch must not lose the others
            return dict.fromkeys(self.wanted, error)
        return await self._at_once()

    async def _at_once(self) -> Answers:
        import asyncio

        loader = self.loader
        assert loader is not None
        slots = asyncio.Semaphore(self.parallel)

        async def ask(context: LoadContext) -> Answer[Any] | Exception:
            async with slots:
                try:
                    return await loader.aload(context)
                except Exception as error:  # one failing key must not lose the others
                    return error

        answers = await asyncio.gather(*(ask(context) for context in self.contexts))
        return dict(zip(self.wanted, answers, strict=True))

    def _missing(self) -> Answers:
        return dict.fromkeys(self.wanted, NotFound())


def _bulk(function: Callable[..., Any], pattern: KeyPattern) -> Callable[..., Any]:
    _require_function(function, pattern)
    return function


def _single(function: Callable[..., Any], pattern: KeyPattern) -> Callable[[LoadContext], Any]:
    """The function as one of the context, whatever it takes of the key."""
    _require_function(function, pattern)
    arguments = _arguments_of(function, pattern)
    if not _is_async(function):
        return lambda context: _give(function, arguments, context)

    async def load(context: LoadContext) -> Any:
        return await _give(function, arguments, context)

    return load


def _give(function: Callable[..., Any], arguments: _Arguments, context: LoadContext) -> Any:
    named = {name: context.args[name] for name in arguments.fields}
    if arguments.context is None:
        return function(**named)
    if arguments.context:
        return function(**{arguments.context: context}, **named)
    return function(context, **named)


class _Arguments(NamedTuple):
    """What a loader is to be given."""

    context: str | None
    """The parameter that gets the context; "" is the first one by its place, None is none."""
    fields: tuple[str, ...]


def _arguments_of(function: Callable[..., Any], pattern: KeyPattern) -> _Arguments:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return _Arguments("", ())
    kinds = {parameter.kind for parameter in parameters}
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    fields = tuple(p.name for p in by_name if p.name in pattern.names)
    if inspect.Parameter.VAR_KEYWORD in kinds:
        fields = pattern.names
    others = [
        p
        for p in parameters
        if p.default is p.empty
        and p.name not in fields
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(others) > 1:
        raise ConfigurationError(
            f"a loader of {pattern.pattern!r} is expected to require the context and any of the "
            f"fields {', '.join(pattern.names) or '(there are none)'}; {_name_of(function)} "
            f"also requires {', '.join(p.name for p in others[1:])}"
        )
    if others:
        by_place = others[0].kind is inspect.Parameter.POSITIONAL_ONLY
        return _Arguments("" if by_place else others[0].name, fields)
    return _Arguments("" if inspect.Parameter.VAR_POSITIONAL in kinds else None, fields)


def _require_function(function: object, pattern: KeyPattern) -> None:
    if not callable(function):
        raise ConfigurationError(
            f"a loader of {pattern.pattern!r} is expected to be a function, got {function!r}"
        )


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
