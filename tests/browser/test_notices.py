"""Notices: sent by a view or by a command in another process, to everybody or to one user."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from .example import Server, Site
from .visitors import Visitor, state

pytestmark = [pytest.mark.live, pytest.mark.browser]
Visit = Callable[..., Visitor]


def feed(page: Page) -> Locator:
    return page.get_by_role("log").locator("li p")


def send(page: Page, text: str, to: str = "to everybody") -> None:
    page.get_by_label("Notice", exact=True).fill(text)
    page.get_by_label("To", exact=True).select_option(to)
    page.get_by_role("button", name="Send").click()


def sent(page: Page) -> None:
    """Wait for the answer, which empties the form, and would what is typed before it."""
    expect(page.get_by_label("Notice", exact=True)).to_have_value("")


def test_view_reaches_the_pages_it_is_for(visit: Visit, servers: tuple[Server, Server]) -> None:
    demo = visit("demo", at=servers[0]).open("/notices/")
    guest = visit("guest", at=servers[1]).open("/notices/")
    for page in demo, guest:
        expect(state(page)).to_have_text("Connected")
    send(demo, "For me alone", "to me")
    expect(feed(demo).first).to_have_text("For me alone")
    sent(demo)
    send(demo, "For everybody")
    for page in demo, guest:
        expect(feed(page).first).to_have_text("For everybody")
    expect(feed(guest).filter(has_text="For me alone")).to_have_count(0)
    sent(demo)


def test_command_in_another_process_reaches_the_pages(
    visit: Visit, site: Site, servers: tuple[Server, Server]
) -> None:
    demo = visit("demo", at=servers[0]).open("/notices/")
    guest = visit("guest", at=servers[1]).open("/notices/")
    for page in demo, guest:
        expect(state(page)).to_have_text("Connected")
    site.manage("notify", "For the guest", "--user", "guest")
    expect(feed(guest).first).to_have_text("For the guest")
    site.manage("notify", "From a shell")
    for page in demo, guest:
        expect(feed(page).first).to_have_text("From a shell")
    expect(feed(demo).filter(has_text="For the guest")).to_have_count(0)


@pytest.mark.parametrize("fate", ["kept", "forgotten"])
def test_page_that_was_away_gets_what_it_missed(
    visit: Visit, servers: tuple[Server, Server], forget: Callable[[], None], fate: str
) -> None:
    demo = visit("demo", at=servers[0])
    page, elsewhere = demo.open("/notices/"), visit("demo", at=servers[1]).open("/notices/")
    for each in page, elsewhere:
        expect(state(each)).to_have_text("Connected")
    receivers = ["to everybody", "to me", "to everybody"]
    missed = [f"{number}. {to}, {fate}" for number, to in enumerate(receivers)]
    servers[0].stop()
    try:
        expect(state(page)).to_have_text("Connection lost, trying again")
        for text, to in zip(missed, receivers, strict=True):
            send(elsewhere, text, to)
            sent(elsewhere)
        if fate == "forgotten":
            forget()
    finally:
        servers[0].start()
    # Newest first, though what is for everybody comes before what is for one.
    newest = page.locator(".feed li:nth-child(-n + 3) p")
    expect(newest).to_have_text(missed[::-1])
    expect(page.locator(".new")).to_have_count(3 if fate == "kept" else 0)
    expect(page.locator(".feed time").filter(has_text="UTC")).to_have_count(0)
    demo.met_a_restart()


def test_times_are_the_readers_own(visit: Visit) -> None:
    page = visit("demo", timezone_id="Asia/Kolkata", locale="en-GB").open("/notices/")
    expect(state(page)).to_have_text("Connected")
    send(page, "What time is it?")
    expect(feed(page).first).to_have_text("What time is it?")
    now = page.locator(".feed time").first.inner_text()
    page.reload()
    expect(page.locator(".feed time").first).to_have_text(now)


def test_form_works_without_javascript(visit: Visit) -> None:
    page = visit("demo", java_script_enabled=False).open("/notices/")
    send(page, "By a plain form")
    expect(page.get_by_role("status").filter(has_text="Sent.")).to_be_visible()
    expect(feed(page).first).to_have_text("By a plain form")


def test_sending_while_logged_out_says_so(visit: Visit) -> None:
    demo = visit("demo")
    page = demo.open("/notices/")
    expect(state(page)).to_have_text("Connected")
    demo.context.clear_cookies(name="sessionid")
    send(page, "Too late")
    expect(page.get_by_role("alert")).to_have_text("Not sent: are you still logged in?")
    expect(page.get_by_label("Notice", exact=True)).to_have_value("Too late")
