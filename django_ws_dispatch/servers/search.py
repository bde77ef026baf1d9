"""A server's own ``send()``, behind what is wrapped around it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from ..inside import inside
from ..typing import Send

__all__ = ["own_send", "owner_of", "package_of"]

SERVERS = frozenset(("uvicorn", "hypercorn", "daphne", "granian"))
# How far to look for a server's send() in what is wrapped around it, and through what.
LAYERS, WIDTH = 8, 32
_CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinMethodType, partial)


def own_send(send: Send) -> Send:
    """Return the server's own ``send``, also from within what stands around it; else ``send``.

    A middleware, an application that mounts this one, and ``uvicorn --log-level trace`` hand on
    another one: a function that closes over it, or a method of an object that has it. Where there
    is more than one connection in it nobody knows which it is.
    """
    if inspect.isfunction(send) and send.__closure__ is None:
        return send
    layer: list[Any] = [send]
    seen = {id(getattr(send, "__self__", None))}
    for _ in range(LAYERS):
        found = {id(owner_of(one)): one for one in layer if package_of(one) in SERVERS}
        if len(found) > 1:
            break
        for one in found.values():
            return one  # type: ignore[no-any-return]
        layer = list(islice(chain.from_iterable(_callables(one, seen) for one in layer), WIDTH))
    return send


def package_of(send: Any) -> str:
    """Return the top-level package of the object behind a server's ``send``."""
    return type(owner_of(send)).__module__.partition(".")[0].lstrip("_")


def owner_of(send: Any) -> Any:
    """Return the object whose method a ``send`` is; else itself."""
    send = getattr(send, "func", send)  # daphne: functools.partial of a method
    return getattr(send, "__self__", send)


def _callables(send: Any, seen: set[int]) -> Iterator[Any]:
    """What may be a ``send`` in one, in the object whose method it is, and in the function."""
    for inner in chain(inside(send), inside(getattr(send, "__self__", None))):
        # Its type, and not its class: a lazy object would be evaluated.
        if issubclass(type(inner), _CALLABLES) and (one := id(owner_of(inner))) not in seen:
            seen.add(one)
            yield inner
