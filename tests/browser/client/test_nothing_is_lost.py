"""Two pages talk on two servers, and whatever drops their sockets, every line is on both, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.example import Server
from tests.kit.valkey import Valkey
from tests.live.proxy import Proxy

from .pages import ALL_THERE, WATCHFUL, fall_silent, go_on, has, heard, is_lost, is_open, say, talk

pytestmark = [pytest.mark.live, pytest.mark.browser]
Open = Callable[..., Page]
Both = tuple[Server, Server]
PAGES = "ann", "bob"
THE_END = "end"


@pytest.fixture
def pages(open_page: Open, both: Both, name: str) -> tuple[Page, Page]:
    """One at each server, which talk."""
    found = [open_page(server.url, talk=name, options=WATCHFUL) for server in both]
    for page, who in zip(found, PAGES, strict=True):
        is_open(page)
        talk(page, who)
    for page in found:
        go_on(page)
    return found[0], found[1]


@pytest.fixture
def all_is_there(pages: tuple[Page, Page], both: Both, name: str) -> Iterator[None]:
    """What must be so at the end of each test."""
    yield
    for page in pages:
        go_on(page)
    for page in pages:
        fall_silent(page)
    acknowledged = [line for page in pages for line in page.evaluate("acknowledged")]
    # Behind what was sent without an answer, too.
    say(pages[0], both[0].url, name, THE_END)
    for page in pages:
        has(page, THE_END)
        page.wait_for_function(ALL_THERE, arg=acknowledged)
    got, same = (page.evaluate("got") for page in pages)
    assert got == same
    assert len(set(got)) == len(got)
    numbers: dict[str, list[int]] = {}
    for who, number in map(str.split, got[:-1]):
        numbers.setdefault(who, []).append(int(number))
    assert all(each == sorted(each) for each in numbers.values())
    for page in pages:
        assert heard(page, "gap") == []


@pytest.mark.usefixtures("all_is_there")
def test_pages_miss_nothing_while_both_servers_are_restarted(
    pages: tuple[Page, Page], both: Both
) -> None:
    for server, page, other in zip(both, pages, reversed(pages), strict=True):
        server.stop()
        is_lost(page)
        go_on(other)
        server.start()
        server.wait_until_ready()
        is_open(page)
        go_on(page)


@pytest.mark.usefixtures("all_is_there")
def test_page_misses_nothing_while_its_network_is_off(pages: tuple[Page, Page]) -> None:
    page, other = pages
    page.context.set_offline(True)
    is_lost(page)
    go_on(other, 20)
    page.context.set_offline(False)
    is_open(page)


@pytest.mark.usefixtures("all_is_there")
def test_page_misses_nothing_while_it_is_in_the_back_forward_cache(
    pages: tuple[Page, Page], open_page: Open, both: Both
) -> None:
    page, other = pages
    page.evaluate("addEventListener('pageshow', ({ persisted }) => (window.kept = persisted))")
    fall_silent(page)
    page.goto(f"{both[0].url}/client.js")
    go_on(other, 20)
    page.evaluate("history.back()")
    page.wait_for_function("window.kept")
    is_open(page)
    talk(page, "ann-again")


@pytest.mark.usefixtures("all_is_there")
def test_pages_miss_nothing_while_the_broker_is_restarted(
    pages: tuple[Page, Page], broker: Valkey
) -> None:
    broker.kill()
    for page in pages:
        page.wait_for_function("refused > 0")
    broker.start()
    for page in pages:
        go_on(page)


def test_page_notices_that_its_network_fell_silent(open_page: Open, both: Both, name: str) -> None:
    with Proxy(int(both[0].url.rpartition(":")[2])) as proxy:
        page = open_page(f"http://127.0.0.1:{proxy.port}", talk=name, options=WATCHFUL)
        is_open(page)
        say(page, both[1].url, name, "before")
        has(page, "before")
        page.wait_for_function("socket.latency !== null")

        # No end of the connection ever comes: only a ping can tell.
        proxy.stall(newcomers=False)
        for number in range(10):
            say(page, both[1].url, name, f"meanwhile {number}")
        is_lost(page)
        is_open(page)
        say(page, both[1].url, name, "after")
        has(page, "after")
        meanwhile = [f"meanwhile {number}" for number in range(10)]
        assert page.evaluate("got") == ["before", *meanwhile, "after"]
        assert heard(page, "gap") == []
