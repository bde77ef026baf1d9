"""What is inside an object: what it closes over, wraps, binds and holds.

Applications, handlers and a server's ``send()`` come with something around them. Nothing is
evaluated on the way in: no lazy object, no property, no ``__getattr__()``.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

__all__ = ["attributes", "inside", "walk"]

# How far to look: what is deeper, or one of more, stays unseen.
LEVELS, WIDTH = 8, 1000

_CONTAINERS: tuple[type[Iterable[Any]], ...] = (list, tuple, set, frozenset, deque)
# Nothing is in the first ones; a module leads to all of a program, and a class is no object.
_CLOSED = (str, bytes, bytearray, int, float, complex, type(None), types.ModuleType, type)


def inside(holder: Any) -> Iterator[Any]:
    """Everything that is directly inside an object."""
    kind = type(holder)
    if issubclass(kind, _CLOSED):
        return
    if kind is types.FunctionType:
        for cell in holder.__closure__ or ():
            with suppress(ValueError):  # still empty
                yield cell.cell_contents
        yield from holder.__defaults__ or ()
        yield from list((holder.__kwdefaults__ or {}).values())
        yield from list(holder.__dict__.values())
        return
    yield from list(attributes(holder).values())
    if issubclass(kind, dict):
        yield from list(dict.values(holder))
    for container in _CONTAINERS:
        if issubclass(kind, container):
            yield from list(container.__iter__(holder))
    for cls in kind.__mro__:
        for descriptor in list(cls.__dict__.values()):
            if type(descriptor) is types.MemberDescriptorType:
                with suppress(AttributeError):  # a slot that is empty
                    yield descriptor.__get__(holder)


def attributes(holder: Any) -> dict[str, Any]:
    """The ``__dict__`` of an object, whatever its class says to that; an empty one for a class."""
    for cls in () if issubclass(type(holder), _CLOSED) else type(holder).__mro__:
        descriptor = cls.__dict__.get("__dict__")
        if type(descriptor) is types.GetSetDescriptorType:
            space: dict[str, Any] = descriptor.__get__(holder)
            return space
    return {}


def walk(root: Any, parts: Callable[[Any], Iterator[Any]] = inside) -> Iterator[Any]:
    """An object and whatever is inside it, the nearest first, each once."""
    level, seen = [root], {id(root)}
    for _ in range(LEVELS):
        yield from level
        found = (one for holder in level for one in parts(holder))
        level = list(islice((one for one in found if _is_new(one, seen)), WIDTH))


def _is_new(one: Any, seen: set[int]) -> bool:
    if id(one) in seen or (issubclass(type(one), _CLOSED) and not issubclass(type(one), type)):
        return False
    seen.add(id(one))
    return True
