"""Who is measured: the rows of the tables, and where each is served."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import NamedTuple

from .measure import AGAIN

BARE = "bare"
BARE_DJANGO = "bare, Django loaded"
RAW = "raw"
OURS = "package"
FROZEN = "package, gc.freeze()"
LOADED = ", session, user, all limits"
STARLETTE = "Starlette"
BROADCASTER = "Starlette, broadcaster"
CHANNELS = "Channels"
CHANNELS_USER = "Channels, session and user"
DAPHNE = "Channels on daphne"

# The same on this package's protocol class; without it on uvicorn's own.
CLASS = "+class"
BARE_CLASS, RAW_CLASS, OURS_CLASS = BARE + CLASS, RAW + CLASS, OURS + CLASS
FULL, FULL_CLASS = OURS + LOADED, OURS_CLASS + LOADED
# The same with permessage-deflate, which the client offers.
DEFLATE = ", deflate"

AUTO = "auto"
PROTOCOL = "django_ws_dispatch.uvicorn:WebSocketProtocol"


class Place(NamedTuple):
    """A handler on a server."""

    target: str
    """the module of ``benchmarks.targets``"""
    path: str = "/ws/echo/"
    ws: str = AUTO
    """what uvicorn serves sockets with"""
    variant: str = ""
    """``freeze``, ``daphne``, or anything else for a process of its own"""
    cookie: bool = False
    """whether somebody is logged in"""
    deflate: bool = False
    """whether the clients offer permessage-deflate"""


# A/A is a process of its own.
PLACES = {
    BARE: Place("bare"),
    AGAIN: Place("bare", variant="again"),
    BARE_CLASS: Place("bare", ws=PROTOCOL),
    BARE_DJANGO: Place("bare_django"),
    RAW: Place("ours", "/ws/raw/"),
    RAW_CLASS: Place("ours", "/ws/raw/", ws=PROTOCOL),
    OURS: Place("ours"),
    OURS_CLASS: Place("ours", ws=PROTOCOL),
    FROZEN: Place("ours", variant="freeze"),
    FULL: Place("ours", "/ws/full/", cookie=True),
    FULL_CLASS: Place("ours", "/ws/full/", ws=PROTOCOL, cookie=True),
    STARLETTE: Place("starlette"),
    CHANNELS: Place("channels"),
    CHANNELS_USER: Place("channels", "/ws/full/", cookie=True),
    DAPHNE: Place("channels", variant="daphne"),
}
NEEDS = {"starlette": ("starlette", "broadcaster"), "channels": ("channels",)}

BOTH_CLASSES = (BARE, AGAIN, BARE_CLASS, OURS, OURS_CLASS)
# A few percent are told apart by many short turns: a machine that others use changes its speed
# several times a second. The peers have tables of their own, in which the differences are larger.
NEAR = (BARE, AGAIN, BARE_CLASS, BARE_DJANGO, RAW, RAW_CLASS, OURS, OURS_CLASS, FROZEN)
FAR = (BARE, OURS, OURS_CLASS, FULL, FULL_CLASS, STARLETTE, CHANNELS, CHANNELS_USER, DAPHNE)


def places(names: Iterable[str]) -> dict[str, Place]:
    """Return those of ``PLACES`` that are installed; a name may end in ``DEFLATE``."""
    found = {}
    for name in names:
        place = PLACES[name.removesuffix(DEFLATE)]
        needs = NEEDS.get(place.target, ())
        if installed(*needs, *(("daphne",) if place.variant == "daphne" else ())):
            found[name] = place._replace(deflate=name.endswith(DEFLATE))
    return found


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
