"""What is inside an object: all of it, a few levels deep, and nothing is evaluated."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.utils.functional import SimpleLazyObject

from django_ws_dispatch.inside import LEVELS, WIDTH, attributes, inside, walk


class Treasure:
    """What is looked for."""


treasure = Treasure()


class Holder:
    def __init__(self, held: object = None) -> None:
        self.held = held

    def method(self) -> None: ...

    @classmethod
    def of_the_class(cls) -> None: ...


class Slotted:
    __slots__ = ("empty", "held")

    def __init__(self, held: object) -> None:
        self.held = held


class SlottedBelow(Slotted):
    __slots__ = ()


class Row(tuple[object, ...]):
    pass


class Table(dict[str, object]):
    def values(self) -> Any:
        raise AssertionError("evaluated")


def closing_over(held: object) -> Callable[[], object]:
    return lambda: held


def with_default(held: object) -> Callable[..., object]:
    return lambda one=held: one


def with_keyword(held: object) -> Callable[..., object]:
    return lambda *, one=held: one


def with_attribute(held: object) -> Callable[..., object]:
    def function() -> None: ...

    function.held = held  # type: ignore[attr-defined]
    return function


WAYS: dict[str, Callable[[object], object]] = {
    "closure": closing_over,
    "default": with_default,
    "keyword": with_keyword,
    "attribute of a function": with_attribute,
    "wraps": lambda held: functools.wraps(closing_over(held))(lambda: None),
    "attribute": Holder,
    "slot": Slotted,
    "slot of a base": SlottedBelow,
    "method": lambda held: Holder(held).method,
    "partial": lambda held: functools.partial(closing_over(held)),
    "bound argument": lambda held: functools.partial(print, held),
    "bound keyword": lambda held: functools.partial(print, end=held),
    "partialmethod": lambda held: functools.partialmethod(closing_over(held)),
    "cache": lambda held: functools.cache(closing_over(held)),
    "list": lambda held: [1, held],
    "tuple": lambda held: (held,),
    "set": lambda held: {held},
    "deque": lambda held: deque([held]),
    "tuple of a class of its own": lambda held: Row([held]),
    "dict": lambda held: {"a": held},
    "dict of a class of its own": lambda held: Table(a=held),
    "deep": lambda held: Holder([{"a": closing_over(Slotted((held,)))}]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_inside_is_found_however_it_is_held(way: Callable[[object], object]) -> None:
    assert any(one is treasure for one in walk(way(treasure)))
    assert not any(one is treasure for one in walk(way(Treasure())))


def never(*args: object) -> Any:
    pytest.fail("evaluated")


class Hostile:
    """Answers nobody."""

    __getattr__ = __getattribute__ = __call__ = __iter__ = __eq__ = __bool__ = __len__ = never
    __hash__ = __instancecheck__ = never  # type: ignore[assignment]

    @property
    def held(self) -> object:
        never()


class Proxy:
    """As those of Werkzeug: even ``__dict__`` is another object's."""

    __dict__ = property(never)  # type: ignore[assignment]


@pytest.mark.parametrize(
    "make", [Hostile, Proxy, lambda: SimpleLazyObject(never)], ids=["hostile", "proxy", "lazy"]
)
def test_nothing_is_evaluated(make: Callable[[], object]) -> None:
    found = list(walk([Holder(make()), treasure]))
    assert any(one is treasure for one in found)


def test_what_holds_itself_is_found_once() -> None:
    holder = Holder()
    holder.held = [holder, {"a": holder}]
    found = list(walk(holder))
    assert sum(one is holder for one in found) == 1


def test_the_nearest_comes_first() -> None:
    near, far = Treasure(), Treasure()
    found = [one for one in walk([[[far]], near]) if type(one) is Treasure]
    assert found == [near, far]


def test_the_search_ends_in_what_is_deep_or_wide() -> None:
    deep: object = treasure
    for _ in range(LEVELS):
        deep = [deep]
    assert not any(one is treasure for one in walk(deep))
    wide = [*(Treasure() for _ in range(WIDTH)), treasure]
    assert not any(one is treasure for one in walk(wide))


@pytest.mark.parametrize("closed", [sys, "text", b"bytes", 5, None, Holder])
def test_modules_classes_and_what_is_no_holder_are_not_looked_into(closed: object) -> None:
    assert list(inside(closed)) == []
    assert attributes(closed) == {}


def test_a_module_does_not_lead_to_what_is_in_it() -> None:
    module = ModuleType("somewhere")
    module.held = treasure  # type: ignore[attr-defined]
    assert not any(one is treasure for one in walk(Holder(module)))


def test_an_empty_cell_and_an_empty_slot_are_nothing() -> None:
    def function() -> object:
        return later

    if not callable(function):
        later = None  # it never gets a value
    assert list(inside(function)) == []
    assert list(inside(Slotted.__new__(Slotted))) == []
