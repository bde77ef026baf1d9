"""The ping page: both forms of a handler, the log, the button, the keyboard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from .visitors import Visitor, close_codes

pytestmark = [pytest.mark.live, pytest.mark.browser]
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("form", ["ping", "raw-ping"])
def test_ping_is_answered_and_logged(visit: Visit, form: str) -> None:
    page = visit().open("/")
    card = page.locator(f"#{form}")
    expect(card.get_by_role("status")).to_have_text("Not connected")
    expect(card.get_by_role("button", name="Send")).to_be_disabled()
    card.get_by_role("button", name="Connect").click()
    expect(card.get_by_role("status")).to_have_text("Connected")
    card.get_by_role("button", name="Send").click()
    expect(card.locator(".log li span")).to_have_text(["open", "ping", "pong!"])


def test_handlers_differ_in_what_is_not_a_ping(visit: Visit) -> None:
    page = visit().open("/")
    for form in "ping", "raw-ping":
        card = page.locator(f"#{form}")
        card.get_by_role("button", name="Connect").click()
        for text in "hello", "<b>hello</b>", "ping":
            card.get_by_label("Message", exact=True).fill(text)
            card.get_by_role("button", name="Send").click()
    expect(page.locator("#ping .log .in span")).to_have_text(
        ["You said hello", "You said <b>hello</b>", "pong!"]
    )
    expect(page.locator("#raw-ping .log .in span")).to_have_text(["pong!"])


def test_button_connects_and_disconnects(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open("/")
    card = page.locator("#ping")
    for _ in range(2):
        card.get_by_role("button", name="Connect", exact=True).click()
        expect(card.get_by_role("status")).to_have_text("Connected")
        card.get_by_role("button", name="Disconnect").click()
        expect(card.get_by_role("status")).to_have_text("Not connected")
    expect(card.locator(".log li span")).to_have_text(["open", "closed"] * 2)
    assert len(visitor.sockets) == 2


def test_page_works_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit().open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    toggle = page.locator("#ping [data-toggle]")
    expect(toggle).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#ping").get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#ping .log .in span")).to_have_text("pong!")
    page.keyboard.press("Shift+Tab")
    expect(toggle).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#ping").get_by_role("status")).to_have_text("Not connected")
    expect(toggle).to_be_focused()


def test_console_of_the_readme_works(visit: Visit) -> None:
    page: Page = visit().open("/")
    answer = page.evaluate(
        """() => new Promise((resolve) => {
          const ws = new WebSocket(`ws://${location.host}/ws/ping/`);
          ws.onopen = () => ws.send("ping");
          ws.onmessage = (event) => { resolve(event.data); ws.close(); };
        })"""
    )
    assert answer == "pong!"
    page.wait_for_function("closeCodes.length === 1")
    assert close_codes(page) == [1005]
