"""Cached methods: whose results they are, and that no instance is kept alive."""

from __future__ import annotations

import abc
import asyncio
import copy
import dataclasses
import gc
import inspect
import pickle
import weakref

import pytest

from hybridcore import cached, keys, lru_cache


class Owner:
    """One of everything."""

    calls = 0

    @cached
    def method(self, x):
        """Say who."""
        type(self).calls += 1
        return (id(self), x)

    @cached(ttl=60)
    async def later(self, x):
        type(self).calls += 1
        return (id(self), x)

    @cached
    @classmethod
    def of_class(cls, x):
        return (cls, x)

    @classmethod
    @cached
    def of_class_too(cls, x):
        return (cls, x)

    @cached
    @staticmethod
    def static(x):
        return [x]

    @staticmethod
    @cached
    def static_too(x):
        return [x]

    @cached
    @property
    def attribute(self):
        return [id(self)]

    @property
    @cached(per_instance=True)
    def attribute_too(self):
        return [id(self)]

    @cached(key=keys.methodkey)
    def common(self, x):
        return [x]

    @cached(per_instance=False)
    def by_value(self, x):
        return [x]

    @lru_cache
    def as_in_functools(self, x):
        return [x]

    @cached
    def __private(self, x):
        return [x]

    def private(self, x):
        return self.__private(x)


def test_instances_have_results_of_their_own() -> None:
    """Whether the method is called, held, or called through the class."""
    one, two = Owner(), Owner()
    assert one.method(1) == (id(one), 1)
    assert two.method(1) == (id(two), 1)
    held = one.method
    assert held(1) is one.method(1) is Owner.method(one, 1)
    assert one.method.cache_info() == (3, 1, 128, 1)
    assert two.method.cache_info() == (0, 1, 128, 1)
    assert Owner.method.cache_info() == (3, 2, 128, 2)


def test_what_is_asked_of_a_method_is_about_its_instance() -> None:
    """``invalidate``, ``get``, ``set``, ``refresh``, ``cache_clear``, ``cache_key``, ``cache``."""
    one, two = Owner(), Owner()
    one.method(1), two.method(1)
    assert one.method.get(1) == (id(one), 1)
    assert one.method.invalidate(1)
    assert not one.method.invalidate(1)
    assert two.method.get(1) == (id(two), 1)
    one.method.set("given", 1)
    assert one.method(1) == "given"
    assert one.method.refresh(1) == (id(one), 1)
    assert one.method.cache_key(1) == Owner.method.cache_key(one, 1) == 1
    assert list(one.method.cache) == [1]
    one.method.cache_clear()
    assert (one.method.get(1), two.method.get(1)) == (None, (id(two), 1))
    Owner.method.cache_clear()
    assert two.method.get(1) is None
    assert Owner.method.invalidate(two, 1) is False


@pytest.mark.parametrize("name", ["method", "attribute", "attribute_too", "common", "private"])
def test_an_instance_is_not_kept_alive(name) -> None:
    """It goes with its last reference, and its results with it."""
    one = Owner()
    if name.startswith("attribute"):
        assert getattr(one, name) is getattr(one, name)
    else:
        assert getattr(one, name)(1) is getattr(one, name)(1)
    gone = weakref.ref(one)
    del one
    assert gone() is None
    if name == "method":
        assert Owner.method.cache_info().currsize == 0


def test_the_results_of_an_instance_go_with_it() -> None:
    """Not later than the instance itself."""

    class Holder:
        @cached
        def make(self, x):
            return Owner()

    holder = Holder()
    result = weakref.ref(holder.make(1))
    assert result() is not None
    del holder
    assert result() is None


def test_another_instance_in_the_same_place_starts_anew() -> None:
    """Memory is used again; what was kept of the former tenant is not found."""

    class Numbered:
        def __init__(self, number):
            self.number = number

        @cached
        def get_number(self):
            return self.number

    for number in range(1000):
        assert Numbered(number).get_number() == number
    assert Numbered.get_number.cache_info().currsize == 0


@pytest.mark.parametrize("name", ["of_class", "of_class_too"])
def test_class_methods_tell_classes_apart(name) -> None:
    """A subclass has results of its own."""

    class Child(Owner):
        pass

    assert getattr(Owner, name)(1) is getattr(Owner(), name)(1)
    assert getattr(Owner, name)(1) == (Owner, 1)
    assert getattr(Child, name)(1) == (Child, 1)
    if name == "of_class":  # which knows the class when it is asked
        assert Child.of_class.invalidate(1)
        assert Child.of_class.get(1) is None
        assert Owner.of_class.get(1) == (Owner, 1)


@pytest.mark.parametrize("name", ["static", "static_too"])
def test_static_methods(name) -> None:
    """Are functions."""
    function = getattr(Owner, name)
    assert function(1) is getattr(Owner(), name)(1)
    assert function.invalidate(1)


def test_coroutine_methods() -> None:
    """Have results per instance, too."""
    one, two = Owner(), Owner()

    async def main():
        first = await one.later(1)
        assert first == (id(one), 1)
        assert await one.later(1) is first is one.later.get(1)
        assert await two.later(1) == (id(two), 1)
        assert one.later.invalidate(1)

    asyncio.run(main())


def test_results_can_be_shared_by_all_instances() -> None:
    """With a key that leaves the instance out, or with the instance as an argument like others."""
    one, two = Owner(), Owner()
    assert one.common(1) is two.common(1)
    assert one.by_value(1) is not two.by_value(1)
    assert one.by_value(1) is one.by_value(1)
    assert one.as_in_functools(1) is Owner.as_in_functools(one, 1)
    assert inspect.ismethod(one.as_in_functools)


def test_copies_and_pickles_of_an_instance_have_nothing_of_its_results() -> None:
    """They are other instances."""
    one = Owner()
    one.method(1)
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert other.method(1) == (id(other), 1)
        assert vars(other) == {}


def test_a_bound_method_is_one() -> None:
    """Signature, name, docstring, equality, hash, pickle, repr."""
    one, two = Owner(), Owner()
    assert str(inspect.signature(one.method)) == "(x)"
    assert str(inspect.signature(Owner.method)) == "(self, x)"
    assert (one.method.__name__, one.method.__doc__) == ("method", "Say who.")
    assert one.method == one.method != two.method
    assert one.method != 1
    assert len({one.method, one.method, two.method}) == 2
    assert one.method.__self__ is one
    assert "Owner.method" in repr(one.method)
    loaded = pickle.loads(pickle.dumps(one.method))
    assert type(loaded.__self__) is Owner
    with pytest.raises(AttributeError):
        one.method.absent  # noqa: B018


def test_unhashable_instances_and_those_with_slots() -> None:
    """An instance needs to be weakly referenced, and nothing else."""

    @dataclasses.dataclass
    class Point:
        x: int

        @cached
        def doubled(self):
            return 2 * self.x

    point = Point(1)
    assert point.doubled() == 2
    point.x = 5
    assert point.doubled() == 2

    class Slotted:
        __slots__ = ("__weakref__", "x")

        @cached
        def doubled(self):
            return 2 * self.x

    slotted = Slotted()
    slotted.x = 2
    assert slotted.doubled() == slotted.doubled() == 4

    @dataclasses.dataclass(frozen=True, slots=True)
    class Bare:
        x: int

        @cached
        def doubled(self):
            return 2 * self.x

        @cached(per_instance=False)
        def tripled(self):
            return 3 * self.x

    with pytest.raises(TypeError, match="__weakref__"):
        Bare(1).doubled()
    assert Bare(1).tripled() == Bare(1).tripled() == 3
    assert Bare.tripled.cache_info().hits == 1


def test_inheritance() -> None:
    """``super()``, overriding, and abstract methods work as with plain methods."""

    class Base(abc.ABC):
        @abc.abstractmethod
        @cached
        def name(self):
            return "base"

    with pytest.raises(TypeError, match="abstract"):
        Base()

    class Child(Base):
        @cached
        def name(self):
            return "child of " + super().name()

    assert Child().name() == "child of base"


def test_a_function_made_elsewhere_stays_one() -> None:
    """To be found in a class by another name does not make a method with many caches of it."""

    @cached
    def function(x):
        return [x]

    class Other:
        borrowed = function

    assert function(1) is function(1)
    assert function.cache_info() == (1, 1, 128, 1)


def test_a_property_can_be_set_and_deleted() -> None:
    """``cached`` on a property leaves its other functions alone."""

    class Box:
        def get(self):
            """What is inside."""
            return [1]

        def put(self, value):
            self.value = value

        content = cached(property(get, put))

    box = Box()
    assert box.content is box.content
    box.content = 5
    assert box.value == 5
    assert Box.content.__doc__ == "What is inside."
    gc.collect()
