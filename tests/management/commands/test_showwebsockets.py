"""``manage.py showwebsockets``."""

from __future__ import annotations

import json
from functools import wraps
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from django_ws_dispatch.decorators import login_required, rate_limit
from django_ws_dispatch.routing import include, path, re_path
from tests.handlers import ping, raw_ping


@login_required
@rate_limit("20/s")
async def room(websocket: Any, slug: str) -> None: ...


HANDLERS = [
    path("", ping, name="root"),
    path("ws/", include([path("rooms/<slug:slug>/", room, name="room")])),
    re_path("^mount/", raw_ping),
    path("broken/", "tests.handlers.nothing", name="broken"),
]


def show(*arguments: str, handlers: Any = HANDLERS) -> str:
    out = StringIO()
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        call_command("showwebsockets", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_it_shows_every_route_in_a_table_and_what_is_wrong_with_it():
    here = "tests.management.commands.test_showwebsockets"
    lines = show().splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["Route", "Name", "Handler", "Kind", "Decorators"],
        ['""', "root", "tests.handlers.ping", "WebSocket"],
        f"ws/rooms/<slug:slug>/ room {here}.room WebSocket login_required, rate_limit".split(),
        ["^mount/", "tests.handlers.raw_ping", "ASGI"],
    ]
    assert len({lines[0].index("Kind"), lines[1].index("WebSocket"), lines[3].index("ASGI")}) == 1
    assert lines[4].startswith("broken/                The handler 'tests.handlers.nothing'")
    assert lines[5].strip().startswith("Write the dotted path")
    assert not any(line.endswith(" ") for line in lines)


def test_json_has_the_same_for_programs():
    rows = json.loads(show("--json"))
    assert [row["route"] for row in rows] == ["", "ws/rooms/<slug:slug>/", "^mount/", "broken/"]
    assert rows[1] == {
        "route": "ws/rooms/<slug:slug>/",
        "name": "room",
        "handler": "tests.management.commands.test_showwebsockets.room",
        "kind": "WebSocket",
        "decorators": ["login_required", "rate_limit"],
        "problem": None,
        "remedy": None,
    }
    assert rows[3]["handler"] is None
    assert "can not be imported" in rows[3]["problem"]
    assert rows[3]["remedy"].startswith("Write the dotted path")


def test_it_shows_the_decorators_that_count_and_no_others():
    def telling(handler):
        return wraps(handler)(silent(handler))

    def silent(handler):
        async def wrapper(websocket, **kwargs):
            await handler(websocket, **kwargs)

        return wrapper

    handlers = {f"{kind.__name__}/<slug:slug>/": kind(room) for kind in (telling, silent)}
    rows = json.loads(show("--json", handlers=handlers))
    assert [row["decorators"] for row in rows] == [["login_required", "rate_limit"], []]


def test_no_routes_are_said():
    assert show(handlers={}) == "WEBSOCKET_HANDLERS has no routes.\n"
    assert json.loads(show("--json", handlers={})) == []


def test_a_setting_that_can_not_be_read_is_an_error_without_a_traceback():
    with pytest.raises(CommandError, match="WEBSOCKET_HANDLERS must be"):
        show(handlers=5)
    with override_settings():
        del settings.WEBSOCKET_HANDLERS
        with pytest.raises(CommandError, match="WEBSOCKET_HANDLERS is not set"):
            call_command("showwebsockets")


def test_a_wrong_limit_is_shown_where_it_hits():
    with override_settings(WEBSOCKET_OUTBOX_SIZE=0):
        assert "WEBSOCKET_OUTBOX_SIZE" in show()
