"""Every public name has a docstring, and its ``Args:`` are the parameters that there are."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

pytestmark = pytest.mark.once

# What the reference documents. Everything else is private, whatever it has in its ``__all__``.
PUBLIC = [
    "asgi",
    "brokers",
    "brokers.base",
    "brokers.memory",
    "brokers.redis",
    "checks",
    "decorators",
    "dispatcher",
    "exceptions",
    "groups",
    "routing",
    "signals",
    "templatetags.websockets",
    "testing",
    "testing.brokers",
    "typing",
    "uvicorn",
    "websockets",
]

_ARGS = re.compile(r"^Args:\n((?:[ ]+.*\n?|\n)*)", re.MULTILINE)
_ARG = re.compile(r"^ {4}([\w*][\w*, ]*):", re.MULTILINE)

# Classes that only this package, or uvicorn, makes an object of, or whose base class has the
# arguments.
NOT_CALLED = {
    "Change",
    "ClientSocket",
    "HandshakeDenied",
    "History",
    "Membership",
    "MemoryBroker",
    "Present",
    "RedisBroker",
    "Registry",
    "WebSocket",
    "WebSocketProtocol",
}


def documented(docstring: str) -> set[str] | None:
    """Return the names of the section ``Args:``, or ``None`` where there is none."""
    section = _ARGS.search(inspect.cleandoc(docstring) + "\n")
    if section is None:
        return None
    return {name.strip(" *") for line in _ARG.finditer(section[1]) for name in line[1].split(",")}


def parameters(function: Any) -> set[str]:
    names = list(inspect.signature(function).parameters)
    return set(names) - {"self", "cls"}


def is_plain_data(value: Any) -> bool:
    return not (inspect.isclass(value) or inspect.isroutine(value))


def public_names() -> list[Any]:
    found = []
    for module_name in PUBLIC:
        module = importlib.import_module(f"django_ws_dispatch.{module_name}")
        for name in module.__all__:
            found.append(pytest.param(module, name, id=f"{module_name}.{name}"))
    return found


@pytest.mark.parametrize(("module", "name"), public_names())
def test_a_public_name_has_a_docstring_with_its_arguments(module: Any, name: str) -> None:
    value = getattr(module, name)
    if is_plain_data(value):
        # A docstring below the assignment is Sphinx's: the source has it.
        assert re.search(rf'^{name} = .*\n"""', inspect.getsource(module), re.MULTILINE)
        return
    docstring = inspect.getdoc(value)
    assert docstring, f"{name} has no docstring"
    if inspect.isclass(value):
        made = "__init__" in vars(value) and not getattr(value, "_is_protocol", False)
        if made and name not in NOT_CALLED:
            assert (documented(docstring) or set()) == parameters(value.__init__), name
    else:
        assert (documented(docstring) or set()) == parameters(value), name


@pytest.mark.parametrize(("module", "name"), public_names())
def test_its_public_methods_have_one_too(module: Any, name: str) -> None:
    value = getattr(module, name)
    if not inspect.isclass(value):
        return
    wrong = []
    for attribute, member in inspect.getmembers(value):
        if attribute.startswith("_") or not inspect.isroutine(member):
            continue
        if not (getattr(member, "__module__", "") or "").startswith("django_ws_dispatch"):
            continue
        docstring = inspect.getdoc(member)
        args = documented(docstring or "")
        if not docstring and not attribute.startswith("test_"):
            wrong.append(f"{attribute}: no docstring")
        elif args is not None and args != parameters(member):
            wrong.append(f"{attribute}: {args} instead of {parameters(member)}")
    assert not wrong
