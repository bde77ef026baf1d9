"""Refused handshakes: a browser does not tell why, so the page tries on, and says so once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page

from tests.browser.example import Server
from tests.live.proxy import Proxy

from .pages import HASTY, has, heard, is_open, say

pytestmark = [pytest.mark.live, pytest.mark.browser]
Open = Callable[..., Page]
Both = tuple[Server, Server]


class BadGateway(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(502)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads that."""


@pytest.fixture
def bad_gateway() -> Iterator[int]:
    """The port of what a proxy says whose site is away."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BadGateway) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def refused(page: Page, times: int) -> None:
    page.wait_for_function(
        "times => heard.some(([, detail]) => detail.refusals >= times)", arg=times
    )


@pytest.mark.parametrize(
    "path", ["/ws/private/", "/ws/forbidden/", "/ws/nowhere/"], ids=["401", "403", "404"]
)
def test_refused_handshake_is_tried_again_for_ever_and_told_once(
    open_page: Open, both: Both, warnings: list[str], path: str
) -> None:
    page = open_page(both[0].url, url=f"{path}?secret=1", options=HASTY)
    refused(page, 5)
    assert page.evaluate("[socket.state in { connecting: 1, waiting: 1 }, socket.id]") == [
        True,
        None,
    ]
    waits = [each for each in heard(page, "state") if each["state"] == "waiting"]
    assert [each["refusals"] for each in waits] == list(range(1, len(waits) + 1))
    assert all(0 <= each["delay"] <= HASTY["maxDelay"] for each in waits)  # type: ignore[operator]
    (line,) = warnings
    assert path in line
    assert "secret" not in line
    assert "network tab" in line
    assert "django_ws_dispatch" in line
    assert heard(page, "closed") == []


def test_wrong_origin_is_refused(open_page: Open, both: Both, warnings: list[str]) -> None:
    elsewhere = both[0].url.replace("127.0.0.1", "localhost")
    page = open_page(elsewhere, url=f"{both[0].url}/ws/talks/any/", options=HASTY)
    refused(page, 3)
    assert len(warnings) == 1
    assert heard(page, "open") == []


def test_page_is_back_after_the_502s_of_a_proxy(
    open_page: Open, both: Both, name: str, bad_gateway: int, warnings: list[str]
) -> None:
    here, there = both
    site = int(here.url.rpartition(":")[2])
    with Proxy(site) as proxy:
        page = open_page(f"http://127.0.0.1:{proxy.port}", talk=name, options=HASTY)
        is_open(page)
        proxy.target = bad_gateway
        proxy.cut()
        refused(page, 5)
        say(page, there.url, name, "meanwhile")
        proxy.target = site
        is_open(page)
        has(page, "meanwhile")
        say(page, there.url, name, "after")
        has(page, "after")
        assert heard(page, "open") == [{"reopened": False}, {"reopened": True}]
        counted = [each["refusals"] for each in heard(page, "state")]
        assert 0 in counted[counted.index(5) :], "an open socket is no refused one"
        assert page.evaluate("got") == ["meanwhile", "after"]
        assert len(warnings) == 1


def test_page_that_asks_the_site_gives_up_where_it_is_logged_out(
    open_page: Open, both: Both, warnings: list[str]
) -> None:
    page = open_page(both[0].url, url="/ws/private/", options=HASTY, ask="/logged-in/")
    page.wait_for_function("socket.state === 'closed'")
    assert heard(page, "closed") == [{"code": 1006, "reason": ""}]
    states = [(each["state"], each["refusals"]) for each in heard(page, "state")]
    assert states == [("connecting", 0), ("waiting", 1), ("closed", 1)]
    assert len(warnings) == 1
