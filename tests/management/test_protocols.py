"""What uvicorn may be given for its ``--ws``."""

from __future__ import annotations

import asyncio
import sys

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from django_ws_dispatch.management.protocols import DEFAULT, check_protocol


class Protocol(asyncio.Protocol):
    """One of somebody else."""


async def coroutine_function() -> None:
    """No class."""


def test_the_default_is_the_class_of_this_package():
    from django_ws_dispatch.uvicorn import WebSocketProtocol

    module, _, name = DEFAULT.partition(":")
    assert getattr(sys.modules[module], name) is WebSocketProtocol


# What "auto" is on an old uvicorn is deprecated by websockets.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "ws", [DEFAULT, "auto", "none", "websockets-sansio", f"{__name__}:Protocol", Protocol]
)
def test_what_uvicorn_can_use_is_fine(ws):
    check_protocol(ws)


@pytest.mark.parametrize(
    ("ws", "why"),
    [
        ("", "format"),
        ("autobahn", "format"),
        (".protocols:WebSocketProtocol", "relative"),
        ("nowhere.at:all", "No module named 'nowhere'"),
        ("tests.nowhere:WebSocketProtocol", "Could not import module"),
        ("django_ws_dispatch.uvicorn:WebsocketProtocol", "not found in module"),
        (f"{__name__}:coroutine_function", "no class of a protocol"),
        ("tests.settings:SECRET_KEY", "no class of a protocol"),
        (dict, "no class of a protocol"),
    ],
)
def test_what_uvicorn_can_not_use_is_refused_with_what_it_can(ws, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_protocol(ws)
    said = str(caught.value)
    assert said.startswith(f"{ws!r} is no WebSocket protocol for uvicorn: ")
    assert said.endswith(f"or module:Class; the default is {DEFAULT}.")
    assert "auto, none, websockets" in said


def forget(monkeypatch, *packages):
    """As if they had never been imported."""
    for name in list(sys.modules):
        if name.startswith(packages):
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("ws", "missing", "remedy"),
    [
        (DEFAULT, "websockets", 'pip install "django-ws-dispatch[uvicorn]"'),
        ("websockets-sansio", "websockets", 'pip install "django-ws-dispatch[uvicorn]"'),
        ("wsproto", "wsproto", "pip install wsproto"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_remedy(ws, missing, remedy, monkeypatch):
    forget(monkeypatch, "uvicorn.protocols.websockets", "django_ws_dispatch.uvicorn", missing)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        check_protocol(ws)
    assert str(caught.value).startswith(f"{ws} needs the package {missing}: {remedy}.")


def test_auto_needs_one_of_two_packages(monkeypatch):
    forget(monkeypatch, "uvicorn.protocols.websockets", "websockets", "wsproto")
    for missing in ("websockets", "wsproto"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match="uvicorn needs the package websockets"):
        check_protocol("auto")


def test_a_uvicorn_that_is_too_old_is_named_with_the_remedy(monkeypatch):
    import uvicorn.protocols.utils

    forget(monkeypatch, "django_ws_dispatch.uvicorn")
    monkeypatch.delattr(uvicorn.protocols.utils, "ClientDisconnected")
    with pytest.raises(ImportError, match=r"another version of the package uvicorn .*--upgrade"):
        check_protocol(DEFAULT)
