"""A page with a socket, as a test sees it."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from playwright.sync_api import Page

# In a network that falls silent: noticed after four seconds at most.
WATCHFUL = {"ping": 1000, "patience": 3000}
# Refused again and again, and soon.
HASTY = {"minDelay": 10, "maxDelay": 50}

ALL_THERE = "lines => { const there = new Set(got); return lines.every((one) => there.has(one)); }"


def address(server: str, **asked: object) -> str:
    """Return the URL of a page.

    Args:
        server: the URL of its server.
        asked: of its socket: the ``talk`` that it takes part in, or a ``url``; the ``options`` of
            ``connect()``; the URL to ``ask`` whether it is worth while to try again.
    """
    return f"{server}/page/?{urlencode({'asked': json.dumps({'options': {}, **asked})})}"


def is_open(page: Page) -> None:
    page.wait_for_function("window.socket?.state === 'open'")


def is_lost(page: Page) -> None:
    page.wait_for_function("socket.state !== 'open'")


def talk(page: Page, name: str) -> None:
    """Have the page POST a line every 100 ms from now on."""
    page.evaluate("name => void talkAs(name)", name)


def fall_silent(page: Page) -> None:
    page.evaluate("talking = false")
    page.wait_for_function("talking === null")


def go_on(page: Page, lines: int = 5) -> None:
    """Wait until so many more of its lines are acknowledged."""
    page.wait_for_function(
        "count => acknowledged.length >= count",
        arg=page.evaluate("acknowledged.length") + lines,
    )


def has(page: Page, line: str) -> None:
    page.wait_for_function("line => got.includes(line)", arg=line)


def say(page: Page, server: str, name: str, line: str) -> None:
    """Say something in a talk, over HTTP and not by the page itself."""
    answer = page.context.request.post(f"{server}/say/{name}/", data=line)
    assert answer.status == 201


def heard(page: Page, kind: str) -> list[dict[str, object]]:
    """Return the details of all events of a kind."""
    found: list[dict[str, object]] = page.evaluate(
        "kind => heard.filter(([type]) => type === kind).map(([, detail]) => detail)", kind
    )
    return found
