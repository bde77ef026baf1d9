"""The interface between the package and its protocol class."""

from __future__ import annotations

import inspect

from django_ws_dispatch.servers.wire import EXTENSION, Wire
from django_ws_dispatch.uvicorn import WebSocketProtocol


def test_the_class_has_all_that_the_interface_names() -> None:
    named = {name for name in {*vars(Wire), *Wire.__annotations__} if not name.startswith("_")}
    assert {"take", "wait", "write_message", "ready", "unsent"} <= named
    assert named <= set(dir(WebSocketProtocol))


def test_its_methods_take_what_the_interface_says() -> None:
    for name, method in vars(Wire).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            mine = inspect.signature(getattr(WebSocketProtocol, name))
            assert list(mine.parameters) == list(inspect.signature(method).parameters), name
            assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(
                getattr(WebSocketProtocol, name)
            )


def test_the_key_is_the_name_of_the_package() -> None:
    assert EXTENSION == "django_ws_dispatch"
