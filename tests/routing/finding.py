"""Routes of a test, and what they lead to."""

from __future__ import annotations

from typing import Any

from django_ws_dispatch.routing.routes import Match, Routes


async def anything(websocket: Any, *args: Any, **kwargs: Any) -> None: ...


async def application(scope: Any, receive: Any, send: Any) -> None: ...


def handler(name: str) -> Any:
    async def handle(websocket: Any, *args: Any, **kwargs: Any) -> None: ...

    handle.__qualname__ = name
    return handle


A, B, C = handler("a"), handler("b"), handler("c")


def find(value: Any, route: str, **scope: Any) -> Match | None:
    routes = value if isinstance(value, Routes) else Routes(value)
    return routes.find({"type": "websocket", "path": route, **scope})


def found(value: Any, route: str, **scope: Any) -> Any:
    match = find(value, route, **scope)
    return match and match.handler.callback


def captured(value: Any, route: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match = find(value, route)
    assert match is not None
    return match.resolver_match.args, match.resolver_match.kwargs
