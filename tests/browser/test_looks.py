"""How the pages look and read: dark and light, wide and narrow, by keyboard and aloud."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .example import ROOT, Server, Site
from .test_rooms import people, said, say
from .visitors import Visitor, save, state

pytestmark = [pytest.mark.live, pytest.mark.browser]
Visit = Callable[..., Visitor]

AUDIT = Path(__file__).with_name("audit.js").read_text(encoding="utf-8")
PICTURE = ROOT / "docs" / "images" / "chat.png"
MOST_BYTES = 120 * 1024
WIDE = {"width": 1100, "height": 720}
PHONE = {"width": 360, "height": 740}
DARK, LIGHT = "rgb(16, 20, 19)", "rgb(245, 247, 246)"


def connected(page: Page) -> None:
    expect(state(page)).to_have_text("Connected")


def ponged(page: Page) -> None:
    page.locator("#ping [data-toggle]").click()
    page.locator("#ping").get_by_role("button", name="Send").click()
    expect(page.locator("#ping .log .in")).to_have_count(1)


def talked(page: Page) -> None:
    connected(page)
    expect(said(page)).not_to_have_count(0)
    say(page, "A longer line, so that one sees how it wraps where there is not much room for it.")
    expect(said(page).last).to_contain_text("A longer line")


def noticed(page: Page) -> None:
    connected(page)
    page.get_by_label("Notice", exact=True).fill("The build is green")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".feed p").first).to_have_text("The build is green")


PAGES: list[tuple[str, str, Callable[[Page], None]]] = [
    ("ping", "/", ponged),
    ("rooms", "/rooms/", lambda page: expect(page.locator(".tiles a").first).to_be_visible()),
    ("room", "/rooms/looks/", talked),
    ("notices", "/notices/", noticed),
]


@pytest.fixture(scope="module", autouse=True)
def talk(site: Site) -> None:
    """A room in which somebody else has said something already."""
    site.add_room("looks", "Looks", ("guest", "Good morning!"))


def check(page: Page, background: str) -> None:
    assert page.evaluate(AUDIT) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    beyond = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert beyond == 0, "the page scrolls sideways"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_readable(visit: Visit, scheme: str, size: dict[str, int]) -> None:
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": size, "reduced_motion": "reduce"}
    device = "phone" if size is PHONE else "wide"
    background = DARK if scheme == "dark" else LIGHT
    login = visit(**options).open("/rooms/")
    expect(login.get_by_role("heading", name="Log in")).to_be_visible()
    check(login, background)
    save(login, f"login-{scheme}-{device}")
    demo = visit("demo", **options)
    page = demo.open("/rooms/")
    for name, path, prepare in PAGES:
        page.goto(path)
        prepare(page)
        check(page, background)
        save(page, f"{name}-{scheme}-{device}")


@pytest.mark.parametrize(("name", "path", "prepare"), PAGES, ids=[page[0] for page in PAGES])
def test_focus_is_seen_wherever_it_goes(
    visit: Visit, name: str, path: str, prepare: Callable[[Page], None]
) -> None:
    page = visit("demo").open(path)
    prepare(page)
    page.evaluate("document.activeElement.blur()")
    controls = page.locator("a[href]:visible, button:enabled:visible, input:visible").count()
    seen: set[str] = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        where, ring, top, left = page.evaluate(
            """() => {
              const element = document.activeElement;
              element.dataset.stop ??= String(performance.now());
              const style = getComputedStyle(element);
              const box = element.getBoundingClientRect();
              const ring = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
              const where = element === document.body ? "" : element.dataset.stop;
              return [where, ring, box.bottom, box.right];
            }"""
        )
        if where in seen:
            break
        if not where:  # Past the last; the next is the first.
            continue
        seen.add(where)
        assert ring >= 2, f"nobody sees the focus at stop {len(seen)}"
        assert top > 0
        assert left > 0
    assert len(seen) >= controls, "the keyboard does not reach everything"


def test_theme_can_be_chosen_and_stays(visit: Visit) -> None:
    page = visit(color_scheme="light").open("/")
    body = page.locator("body")
    expect(body).to_have_css("background-color", LIGHT)
    page.get_by_role("button", name="Switch between dark and light").click()
    expect(body).to_have_css("background-color", DARK)
    page.goto("/login/")
    expect(body).to_have_css("background-color", DARK)
    page.get_by_role("button", name="Switch between dark and light").click()
    expect(body).to_have_css("background-color", LIGHT)


def test_wrong_password_is_told(visit: Visit) -> None:
    page = visit().open("/login/?next=/rooms/lobby/")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Please enter a correct username")
    assert page.evaluate(AUDIT) == []
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Lobby")).to_be_visible()
    connected(page)


def test_picture_of_the_readme(visit: Visit, site: Site, servers: tuple[Server, Server]) -> None:
    """Two browsers in one room. With UPDATE_PICTURES=1 this one is the README's."""
    path = site.add_room("release", "Release day")
    size = {"viewport": {"width": 580, "height": 690}}
    demo = visit("demo", at=servers[0], color_scheme="light", **size).open(path)
    expect(people(demo)).to_have_text(["demo"])
    guest = visit("guest", at=servers[1], color_scheme="dark", **size).open(path)
    for page in demo, guest:
        expect(people(page)).to_have_text(["demo", "guest"])
    talk = [
        (demo, "Is the new build out?"),
        (guest, "Just now. Both servers restarted under us."),
        (demo, "The page said “trying again” for a second, then it was back."),
        (demo, "Nothing lost."),
        (guest, "That was the idea."),
    ]
    for count, (page, text) in enumerate(talk, start=1):
        say(page, text)
        for each in demo, guest:
            expect(said(each)).to_have_count(count)
    shots = [
        base64.b64encode(save(page, f"chat-{name}")).decode()
        for name, page in [("demo", demo), ("guest", guest)]
    ]
    frame = visit(viewport={"width": 1200, "height": 714}).context.new_page()
    images = "".join(f'<img alt="" src="data:image/png;base64,{shot}">' for shot in shots)
    frame.set_content(
        "<style>body { margin: 0; height: 714px; display: grid; grid-auto-flow: column;"
        " place-content: center; gap: 16px; background: #d3dbd7 }"
        f"img {{ border-radius: 10px }}</style>{images}"
    )
    frame.wait_for_function("[...document.images].every((image) => image.complete)")
    picture = save(frame, "chat")
    assert len(picture) < MOST_BYTES
    if "UPDATE_PICTURES" in os.environ:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_bytes(picture)
    assert 0 < PICTURE.stat().st_size < MOST_BYTES
