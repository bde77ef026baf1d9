"""Two servers with a broker that can be restarted, and pages of which each has a socket."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.browser.example import Server
from tests.kit.server import TROUBLE
from tests.kit.valkey import Valkey

if TYPE_CHECKING:
    import playwright.sync_api as play

# What a server says whose broker is away.
MEANT = re.compile("Lost the broker|Service Unavailable: /say/")


@pytest.fixture(scope="package")
def broker() -> Iterator[Valkey]:
    """It has its data on disk before it says so."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with Valkey(port=None, arguments=arguments) as broker:
        yield broker


@pytest.fixture(scope="package")
def both(broker: Valkey) -> Iterator[tuple[Server, Server]]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.browser.client.settings",
        "REDIS_URL": broker.url,
    }
    both = tuple(Server(environment, "tests.asgi:application") for _ in range(2))
    with ExitStack() as stack:
        for server in both:
            stack.enter_context(server)
        for server in both:
            server.wait_until_ready()
        yield both[0], both[1]


@pytest.fixture
def name() -> str:
    """Of a talk that no other test takes part in."""
    return secrets.token_hex(8)


@pytest.fixture
def warnings() -> list[str]:
    """What the consoles of all pages warn of."""
    return []


@pytest.fixture
def open_page(
    chromium: play.Browser, both: tuple[Server, Server], warnings: list[str]
) -> Iterator[Callable[..., play.Page]]:
    """Return a function ``(server's URL, **asked) -> Page``, in a context of its own.

    The test fails if a page meets an exception, or a server logs one.
    """
    from tests.browser.visitors import DEADLINE

    from .pages import address

    errors: list[str] = []
    contexts: list[play.BrowserContext] = []
    said = [len(server.lines) for server in both]

    def note(message: play.ConsoleMessage) -> None:
        if message.type == "warning":
            warnings.append(message.text)

    def open_page(server: str, **asked: object) -> play.Page:
        context = chromium.new_context()
        contexts.append(context)
        context.set_default_timeout(DEADLINE)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("console", note)
        page = context.new_page()
        page.goto(address(server, **asked))
        return page

    yield open_page
    for context in contexts:
        context.close()
    for server, already in zip(both, said, strict=True):
        lines = (line for line in server.lines[already:] if not MEANT.search(line))
        errors += [line for line in lines if TROUBLE.search(line)]
    assert not errors, "\n".join(errors)
