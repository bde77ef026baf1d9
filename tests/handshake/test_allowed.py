"""Lists of origins: what may stand there, and what is said of what may not."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.handshake.allowed import check_origins, load_allowed_origins, unsent

# What native clients and shells send.
SENT = ["file://", "file:///", "app://.", "capacitor://localhost", "ionic://localhost", "x://"]

# What no browser sends, and what to write for a page.
UNSENT = {
    "wss://a.example": 'Write "https://a.example".',
    "WSS://a.example:443/": 'Write "https://a.example".',
    "ws://a.example:8000": 'Write "http://a.example:8000".',
    "http://a.example/": 'Write "http://a.example".',
    "http://a.example/chat?x#y": 'Write "http://a.example".',
    "https://u:p@a.example": 'Write "https://a.example".',
    "https://a.example:443": 'Write "https://a.example".',
    "http://[::F]:80": 'Write "http://[::f]".',
    "https://a.example:": 'Write "https://a.example".',
    "http://a.example:08000": 'Write "http://a.example:8000".',
    "https://Shop.example:8000": 'Write "https://shop.example:8000".',
    "HTTPS://a.example": 'Write "https://a.example".',
    "https://bücher.de:443": 'Write "https://xn--bcher-kva.de".',
    "https://straße.de": "Write its host in punycode",
    "https://bücher..de": "Write its host in punycode",
    "https://\u2100.de": "Write its host in punycode",
    "https://*.a.example:443": 'Write "https://*.a.example".',
    "wss://*.a.example": 'Write "https://*.a.example".',
    "https://.a.example": 'Write "https://*.a.example" for the subdomains of a.example.',
    "https://A.example:port": 'or none: "https://a.example".',
    "https://a.example:65536": "Write a port from 1 to 65535",
    "https://a:b:80": "Write a port from 1 to 65535",
    "https://a.example:0": "Write a port from 1 to 65535",
    "https://a.example:\u0663": "Write a port from 1 to 65535",
    "http://[::1": "Write scheme, host and, where it is not the default, the port",
    "https://a%20b": "Write scheme, host and, where it is not the default, the port",
    "://a.example": "Write scheme, host and, where it is not the default, the port",
}

SENT_BY_BROWSERS = [
    "*",
    "https://a.example",
    "https://*.a.example",
    "http://[::1]:8000",
    "https://a:80",
    "https://*.A.example",
    "chrome-extension://abc",
    "app://MyApp",
]

WRONG: list[tuple[Any, str]] = [
    ("https://a.example", 'a list of origins such as "https://'),
    (["a.example"], "'a.example' is not an origin. Write scheme"),
    (["https://"], "is not an origin"),
    (["HTTP:///x"], "is not an origin. Write scheme, host and, where"),
    (["wss://"], "is not an origin. Write scheme, host and, where it"),
    (["https://u@"], "is not an origin. Write scheme, host and, whe"),
    (["https://[]:80"], "is not an origin. Write scheme, host and,"),
    (["https://a.example", ""], "'' is not an origin"),
    (["https://:8000"], "is not an origin. Write scheme, host and"),
    (["https://::1"], "is not an origin. Write scheme, host and"),
    (["null"], 'every page. Where that is meant write ["*"]'),
    (["https://a.example "], "Write one origin in each string."),
    (["https://a,http://a"], "Write one origin in each string."),
    (["app://\x00"], "Write one origin in each string."),
    (["https://a\u200b.b"], "Write one origin in each string."),
    (["https://*.bücher.de"], '"https://*.xn--bcher-kva.de".'),
    (["https://*"], "A * stands for the subdomains of a host"),
    (["https://*:8000"], "A * stands for the subdomains of a host"),
    (["https://*."], "A * stands for the subdomains of a host"),
    (["https://*.a.example/"], "A * stands for the subdomains of a h"),
    (["*://a.example"], "A * stands for the subdomains of a host"),
    (["http://a.example:*"], "A * stands for the subdomains of a"),
]


@pytest.mark.parametrize("origin", [*SENT, *UNSENT, *SENT_BY_BROWSERS])
def test_whatever_a_client_may_send_can_be_listed(origin: str) -> None:
    assert check_origins("allowed_origins()", (origin,)) == [origin]


@pytest.mark.parametrize(("value", "remedy"), WRONG)
def test_a_wrong_list_is_named_with_the_remedy(value: Any, remedy: str) -> None:
    wrong = override_settings(WEBSOCKET_ALLOWED_ORIGINS=value)
    with wrong, pytest.raises(ImproperlyConfigured) as raised:
        load_allowed_origins()
    assert str(raised.value).startswith("WEBSOCKET_ALLOWED_ORIGINS")
    assert remedy in str(raised.value)


def test_without_the_setting_there_is_no_list() -> None:
    assert load_allowed_origins() is None


def test_origins_of_a_decorator_are_named_by_it() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^allowed_origins\(\): 'a' is not an origin"):
        check_origins("allowed_origins()", ["a"])


@pytest.mark.parametrize("origin", UNSENT)
def test_of_what_no_browser_sends_the_right_spelling_is_known(origin: str) -> None:
    assert UNSENT[origin] in str(unsent(origin))


@pytest.mark.parametrize(
    "origin",
    [*SENT, *UNSENT, *SENT_BY_BROWSERS],
)
def test_what_a_browser_or_a_client_of_its_own_scheme_sends_is_right(origin: str) -> None:
    assert (unsent(origin) is None) is (origin not in UNSENT)
