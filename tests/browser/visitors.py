"""Somebody with a browser: a context of chromium that notes whatever goes wrong in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import playwright.sync_api as play

from .example import ROOT, Server

DEADLINE = 60_000  # ms for anything that a test waits for
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or ROOT / ".tox" / "browser" / "screenshots")

# Chromium's word for a page that was left, or reloaded, while its socket was connecting.
LEFT_EARLY = "failed: WebSocket is closed before the connection is established."

# Close codes, which Playwright does not tell.
RECORD_CLOSE_CODES = """
window.closeCodes = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("close", (event) => closeCodes.push(event.code));
  }
};
"""


class Visitor:
    """A browser context at one server: cookies, pages, and a list of what was wrong.

    Args:
        browser: the browser that the context is of.
        server: where paths lead to.
        options: those of ``browser.new_context()``.
    """

    def __init__(self, browser: play.Browser, server: Server, **options: object) -> None:
        self.server = server
        self.problems: list[str] = []
        self.requests: list[play.Request] = []
        self.sockets: list[play.WebSocket] = []
        options = {"base_url": server.url, "viewport": {"width": 1100, "height": 720}, **options}
        self.context = browser.new_context(**options)  # type: ignore[arg-type]
        self.context.set_default_timeout(DEADLINE)
        self.context.add_init_script(RECORD_CLOSE_CODES)
        self.context.on("request", self._on_request)
        self.context.on("console", self._on_console)
        self.context.on("weberror", lambda error: self.problems.append(str(error.error)))

    def _on_request(self, request: play.Request) -> None:
        self.requests.append(request)
        self._same_host(request.url)

    def _on_socket(self, socket: play.WebSocket) -> None:
        self.sockets.append(socket)
        self._same_host(socket.url)

    def _same_host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "about") and parts.netloc != self.server.host:
            self.problems.append(f"a request to another host: {url}")

    def _on_console(self, message: play.ConsoleMessage) -> None:
        if message.text.endswith(LEFT_EARLY):
            return
        if message.type in ("error", "warning", "assert"):
            self.problems.append(f"{message.type} in the console: {message.text}")

    def log_in(self, user: str) -> None:
        """Log in over HTTP, as the form does."""
        self.context.request.get("/login/")
        tokens = [item["value"] for item in self.context.cookies() if item["name"] == "csrftoken"]
        form = {"username": user, "password": "demo", "csrfmiddlewaretoken": tokens[0]}
        answer = self.context.request.post("/login/", form=form, headers={"Referer": "/login/"})
        if not answer.url.endswith("/rooms/"):
            raise RuntimeError(f"{user} could not log in: {answer.status}")

    def open(self, path: str) -> play.Page:
        """Return a new page that shows ``path``."""
        page = self.context.new_page()
        page.on("websocket", self._on_socket)
        page.goto(path)
        return page

    def expected(self, pattern: str) -> None:
        """Take what matches off the problems: the test brought it about.

        Raises:
            AssertionError: nothing of the kind happened.
        """
        left = [problem for problem in self.problems if not re.search(pattern, problem)]
        if len(left) == len(self.problems):
            raise AssertionError(f"no {pattern!r} among {self.problems}")
        self.problems = left

    def met_a_restart(self) -> None:
        """Take off the problems what a browser says that has asked a server that was away."""
        away = re.compile("ERR_CONNECTION_REFUSED|WebSocket refused: ")
        self.problems = [each for each in self.problems if not away.search(each)]


def state(page: play.Page) -> play.Locator:
    """Return the line that says how the page's socket is doing."""
    return page.locator(".state [role=status]")


def close_codes(page: play.Page) -> list[int]:
    """Return the code of each WebSocket that the page has seen closed."""
    codes: list[int] = page.evaluate("closeCodes")
    return codes


def save(page: play.Page, name: str) -> bytes:
    """Save a screenshot, and return it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled", caret="hide")
