"""Rooms: two browsers on two servers, and what a page says when its socket goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.kit.valkey import Valkey

from .example import Server, Site
from .visitors import Visitor, close_codes, save, state

pytestmark = [pytest.mark.live, pytest.mark.browser]
Visit = Callable[..., Visitor]

# Who was here, whenever that has changed.
RECORD_PEOPLE = """() => {
  const list = document.querySelector("[data-people]");
  const names = () => [...list.querySelectorAll("li > :last-child")].map((each) => each.innerText);
  window.seen = [names().join(" ")];
  new MutationObserver(() => {
    const now = names().join(" ");
    if (now !== seen.at(-1)) seen.push(now);
  }).observe(list, { childList: true });
}"""
FIVE_MINUTES = 5 * 60 * 1000


def said(page: Page) -> Locator:
    return page.get_by_role("log").locator(".said")


def people(page: Page) -> Locator:
    return page.get_by_role("list", name="Here now").locator("li > :last-child")


def box(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def say(page: Page, text: str) -> None:
    box(page).fill(text)
    box(page).press("Enter")


def test_two_users_on_two_servers_talk(
    visit: Visit, site: Site, servers: tuple[Server, Server]
) -> None:
    path = site.add_room("talk", "Talk")
    demo = visit("demo", at=servers[0]).open(path)
    guest = visit("guest", at=servers[1]).open(path)
    expect(state(guest)).to_have_text("Connected")
    expect(demo.get_by_text("Nobody has said anything yet.")).to_be_visible()
    for page, text in (demo, "Hello?"), (guest, "Hi, <b>demo</b>"), (demo, "There you are"):
        say(page, text)
        for each in demo, guest:
            expect(said(each).last).to_have_text(text)
    for page in demo, guest:
        expect(said(page)).to_have_text(["Hello?", "Hi, <b>demo</b>", "There you are"])
        expect(page.get_by_role("log").locator("b")).to_have_text(["demo", "guest", "demo"])


def test_everybody_sees_who_is_here(
    visit: Visit, site: Site, servers: tuple[Server, Server]
) -> None:
    path = site.add_room("presence", "Presence")
    demo = visit("demo", at=servers[0]).open(path)
    expect(people(demo)).to_have_text(["demo"])
    guest = visit("guest", at=servers[1])
    first, second = guest.open(path), guest.open(path)
    for page in demo, first, second:
        expect(people(page)).to_have_text(["demo", "guest"])
    rooms = guest.open("/rooms/").get_by_role("link", name="Presence")
    expect(rooms).to_contain_text("2 here")
    first.close()
    say(second, "One page of mine is left")
    expect(said(demo)).to_have_text(["One page of mine is left"])
    expect(people(demo)).to_have_text(["demo", "guest"])
    second.close()
    expect(people(demo)).to_have_text(["demo"])


def test_reload_is_no_leaving(visit: Visit, site: Site, servers: tuple[Server, Server]) -> None:
    path = site.add_room("reload", "Reload")
    demo = visit("demo", at=servers[0]).open(path)
    expect(people(demo)).to_have_text(["demo"])
    demo.evaluate(RECORD_PEOPLE)
    guest = visit("guest", at=servers[1]).open(path)
    for page in demo, guest:
        expect(people(page)).to_have_text(["demo", "guest"])
    guest.reload()
    expect(people(guest)).to_have_text(["demo", "guest"])
    guest.close()
    expect(people(demo)).to_have_text(["demo"])
    assert demo.evaluate("seen") == ["demo", "demo guest", "demo"]


def test_history_is_there_after_a_reload(visit: Visit, site: Site) -> None:
    page = visit("demo").open(site.add_room("history", "History"))
    texts = [f"Line {number}" for number in range(5)]
    expect(state(page)).to_have_text("Connected")
    for text in texts:
        say(page, text)
    expect(said(page)).to_have_text(texts)
    page.reload()
    expect(said(page)).to_have_text(texts)
    expect(people(page)).to_have_text(["demo"])


def test_logout_in_one_tab_closes_the_socket_of_the_other(
    visit: Visit, site: Site, servers: tuple[Server, Server]
) -> None:
    path = site.add_room("logout", "Logout")
    demo = visit()
    demo.log_in("demo")
    bystander = visit("guest", at=servers[1]).open(path)
    expect(people(bystander)).to_have_text(["guest"])
    room, other = demo.open(path), demo.open("/rooms/")
    room.clock.install()
    room.reload()
    for page in room, bystander:
        expect(people(page)).to_have_text(["guest", "demo"])
    opened = len(demo.sockets)

    other.get_by_role("button", name="Log out").click()

    expect(state(room)).to_have_text("You are logged out.")
    assert close_codes(room) == [4401]
    expect(room.get_by_role("button", name="Send")).to_be_disabled()
    expect(people(room)).to_have_text([])
    expect(people(bystander)).to_have_text(["guest"])
    expect(state(bystander)).to_have_text("Connected")
    room.clock.fast_forward(FIVE_MINUTES)
    expect(state(room)).to_have_text("You are logged out.")
    assert len(demo.sockets) == opened, "a refused page connected again"
    save(room, "room-logged-out")
    room.locator(".state").get_by_role("link", name="Log in").click()
    room.get_by_label("Password").fill("demo")
    room.get_by_label("Password").press("Enter")
    expect(state(room)).to_have_text("Connected")


def test_page_lives_through_a_restart(
    visit: Visit, site: Site, servers: tuple[Server, Server]
) -> None:
    path = site.add_room("restart", "Restart")
    demo, guest = visit("demo", at=servers[0]), visit("guest", at=servers[1])
    room, elsewhere = demo.open(path), guest.open(path)
    for page in room, elsewhere:
        expect(state(page)).to_have_text("Connected")
    say(room, "Before")
    expect(said(elsewhere)).to_have_text(["Before"])

    meanwhile = [f"Meanwhile {number}" for number in range(3)]
    servers[0].stop()
    try:
        expect(state(room)).to_have_text("Connection lost, trying again")
        assert close_codes(room)[0] == 1012
        say(room, "Not yet")
        for text in meanwhile:
            say(elsewhere, text)
        expect(said(elsewhere)).to_have_text(["Before", *meanwhile])
        expect(said(room)).to_have_text(["Before"])
        save(room, "room-lost")
    finally:
        servers[0].start()

    expect(state(room)).to_have_text("Connected")
    expect(said(room)).to_have_text(["Before", *meanwhile])
    expect(box(room)).to_have_value("Not yet")
    box(room).press("Enter")
    for page in room, elsewhere:
        expect(said(page)).to_have_text(["Before", *meanwhile, "Not yet"])
    demo.met_a_restart()


def test_chat_lives_through_a_restart_of_the_broker(
    visit: Visit, site: Site, servers: tuple[Server, Server], valkey: Valkey
) -> None:
    path = site.add_room("outage", "Outage")
    demo, guest = visit("demo", at=servers[0]).open(path), visit("guest", at=servers[1]).open(path)
    for page in demo, guest:
        expect(state(page)).to_have_text("Connected")
    say(demo, "Before")
    expect(said(guest)).to_have_text(["Before"])
    expect(people(guest)).to_have_count(2)
    guest.evaluate(RECORD_PEOPLE)

    valkey.kill()
    try:
        say(demo, "Is anybody here?")
        expect(demo.get_by_role("alert")).to_contain_text("Not sent")
        expect(box(demo)).to_have_value("Is anybody here?")
        for page in demo, guest:
            expect(said(page)).to_have_text(["Before"])
            expect(state(page)).to_have_text("Connected")
    finally:
        valkey.start()

    # The servers need not have noticed yet that it is back.
    box(demo).press("Enter")
    for page in demo, guest:
        expect(said(page)).to_have_text(["Before", "Is anybody here?"])
        assert close_codes(page) == []
    demo.reload()
    expect(said(demo)).to_have_text(["Before", "Is anybody here?"])
    expect(people(demo)).to_have_count(2)
    assert len(guest.evaluate("seen")) == 1, "an outage is no leaving"


def test_open_page_is_loaded_again_where_the_broker_has_forgotten(
    visit: Visit, site: Site, servers: tuple[Server, Server], forget: Callable[[], None]
) -> None:
    path = site.add_room("gap", "Gap")
    demo, guest = visit("demo", at=servers[0]).open(path), visit("guest", at=servers[1]).open(path)
    for page in demo, guest:
        expect(state(page)).to_have_text("Connected")
    say(demo, "Before")
    for page in demo, guest:
        expect(said(page)).to_have_text(["Before"])

    site.write("gap", ("demo", "Missed"))
    forget()
    say(demo, "After")

    for page in demo, guest:
        expect(said(page)).to_have_text(["Before", "Missed", "After"])
        assert close_codes(page) == []
    # All that was forgotten is known again, and who is here as well.
    guest.reload()
    for page in demo, guest:
        expect(people(page)).to_have_count(2)


def test_page_that_was_away_for_too_long_is_loaded_again(
    visit: Visit, site: Site, server: Server, forget: Callable[[], None]
) -> None:
    path = site.add_room("away", "Away")
    visitor = visit("demo")
    page = visitor.open(path)
    expect(state(page)).to_have_text("Connected")
    say(page, "Before")
    expect(said(page)).to_have_text(["Before"])

    server.stop()
    try:
        expect(state(page)).to_have_text("Connection lost, trying again")
        site.write("away", ("guest", "Meanwhile"))
        forget()
    finally:
        server.start()

    expect(said(page)).to_have_text(["Before", "Meanwhile"])
    say(page, "After")
    expect(said(page)).to_have_text(["Before", "Meanwhile", "After"])
    visitor.met_a_restart()


def test_denied_page_asks_over_http_before_it_tries_again(visit: Visit, site: Site) -> None:
    path = site.add_room("denied", "Denied")
    demo = visit("demo")
    page = demo.open("/rooms/")
    page.clock.install()

    def log_out_first(route: Route) -> None:
        demo.context.clear_cookies(name="sessionid")
        route.continue_()

    # The page is still that of a user; its socket comes too late.
    page.route("**/room.js", log_out_first)
    page.goto(path)

    expect(state(page)).to_have_text("You are logged out.")
    assert close_codes(page) == [1006]
    asked = [request for request in demo.requests if request.method == "HEAD"]
    assert [request.url for request in asked] == [demo.server.url + path]
    page.clock.fast_forward(FIVE_MINUTES)
    expect(state(page)).to_have_text("You are logged out.")
    assert len(demo.sockets) == 1
    expect(page.locator(".state").get_by_role("link", name="Log in")).to_be_visible()
    demo.expected("WebSocket connection .*/ws/rooms/denied/")
    demo.expected("WebSocket refused: .*/ws/rooms/denied/")
