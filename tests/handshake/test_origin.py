from __future__ import annotations

import random
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.middleware.csrf import CsrfViewMiddleware
from django.test import override_settings

from django_ws_dispatch.handshake.origin import MEMO_SIZE, OriginCheck
from django_ws_dispatch.handshake.request import build_request

from .hostile_origins import altered_origins, hostile_origins, repeated_origins

OWN = "http://testserver:8000"
WILDCARD = "https://*.example.com"
HOSTILE = hostile_origins(OWN) | altered_origins(OWN)


def scope(*origins: bytes, host: bytes | None = b"testserver:8000", **changes: Any) -> Any:
    headers = [] if host is None else [(b"host", host)]
    headers += [(b"user-agent", b"tests"), *((b"origin", origin) for origin in origins)]
    headers += changes.pop("headers", [])
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": "/ws/",
        "query_string": b"",
        "headers": headers,
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1234),
    } | changes


def status(refusal: Any) -> int | None:
    return None if refusal is None else refusal.status


# Origin


def test_the_page_itself_is_allowed():
    assert OriginCheck().check(scope(OWN.encode())) is None


def test_a_client_without_an_origin_is_allowed():
    assert OriginCheck().check(scope()) is None


def test_wss_is_https():
    check = OriginCheck().check
    secure = {"host": b"testserver", "scheme": "wss"}
    assert check(scope(b"https://testserver", **secure)) is None
    assert status(check(scope(b"http://testserver", **secure))) == 403


def test_a_scope_without_a_scheme_is_plain():
    plain = scope(OWN.encode())
    del plain["scheme"]
    assert OriginCheck().check(plain) is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_origin_is_refused(name: str):
    check = OriginCheck()
    check.check(scope(OWN.encode()))
    check.check(scope())
    assert status(check.check(scope(HOSTILE[name]))) == 403
    assert status(check.check(scope(HOSTILE[name]))) == 403


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_origin_is_refused_with_wildcards(name: str):
    trusted = {"CSRF_TRUSTED_ORIGINS": [WILDCARD, "http://*.testserver.org"]}
    with override_settings(**trusted):
        assert status(OriginCheck().check(scope(HOSTILE[name]))) == 403


@pytest.mark.parametrize("name", repeated_origins(OWN))
def test_repeated_origins_are_refused(name: str):
    check = OriginCheck()
    check.check(scope(OWN.encode()))
    check.check(scope())
    assert status(check.check(scope(*repeated_origins(OWN)[name]))) == 403


def test_the_corpus_has_at_least_30_shapes():
    assert len(hostile_origins(OWN)) >= 30
    assert OWN.encode() not in HOSTILE.values()


def test_an_origin_is_seen_whatever_the_case_of_its_name():
    check = OriginCheck()
    assert check.check(scope()) is None
    for name in (b"Origin", b"ORIGIN", b"oRigin"):
        hostile = scope(headers=[(name, b"http://evil.example")])
        assert status(check.check(hostile)) == 403


def test_any_allowed_host_does_not_allow_any_origin():
    with override_settings(ALLOWED_HOSTS=["*"]):
        check = OriginCheck()
        assert status(check.check(scope(b"http://evil.example"))) == 403
        assert check.check(scope(b"http://other.example", host=b"other.example")) is None


def test_trusted_origins_are_allowed_besides_the_page():
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://app.example.com", "http://x.org:81"]):
        check = OriginCheck()
        assert check.check(scope(b"https://app.example.com")) is None
        assert check.check(scope(b"http://x.org:81")) is None
        assert check.check(scope(OWN.encode())) is None
        assert status(check.check(scope(b"http://x.org"))) == 403


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://example.com", True),
        (b"https://a.example.com", True),
        (b"https://a.b.example.com", True),
        (b"http://a.example.com", False),
        (b"https://a.example.com:8443", False),
        (b"https://a.example.com.evil.example", False),
        (b"https://evilexample.com", False),
        (b"https://evil@a.example.com", False),
        (b"https://evil.example:80@a.example.com", False),
        (b"https://evil.example,a.example.com", False),
        (b"https://evil.example a.example.com", False),
        (b"https://evil.example\\.example.com", False),
        (b"https://a.example.com/", False),
        (b"https://a.example.com/evil", False),
        (b"https://a.example.com?", False),
        (b"https://a.example.com#x", False),
        (b"https://A.example.com", False),
        (b"HTTPS://a.example.com", False),
        (b" https://a.example.com", False),
        (b"https://a.example.com\n", False),
        (b"https://\xe9.example.com", False),
    ],
)
def test_a_wildcard_stands_for_subdomains_and_nothing_else(origin: bytes, allowed: bool):
    with override_settings(CSRF_TRUSTED_ORIGINS=[WILDCARD]):
        assert (OriginCheck().check(scope(origin)) is None) is allowed
    assert (OriginCheck([WILDCARD]).check(scope(origin)) is None) is allowed


def test_listed_origins_replace_the_page_and_the_trusted_ones():
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://trusted.example"]):
        check = OriginCheck(["http://localhost:3000", "capacitor://localhost"])
        assert check.check(scope(b"http://localhost:3000")) is None
        assert check.check(scope(b"capacitor://localhost")) is None
        assert status(check.check(scope(OWN.encode()))) == 403
        assert status(check.check(scope(b"https://trusted.example"))) == 403
        assert check.check(scope()) is None


LISTED = [
    "file://",
    "app://.",
    "capacitor://localhost",
    "wss://example.com",
    "http://example.com/",
    "https://example.com:443",
    "HTTPS://Example.com",
    "https://user@example.com",
    "https://b\u00fccher.example",
    "https://\u4e2d\u6587.example",
]


@pytest.mark.parametrize("origin", LISTED)
def test_a_listed_origin_fits_what_is_written_like_it_and_nothing_else(origin: str):
    check = OriginCheck([origin])
    written = origin.encode()
    assert check.check(scope(written)) is None
    others = [
        b"https://example.com",
        b"http://example.com",
        b"ws://example.com",
        b"https://xn--bcher-kva.example",
        b"https://b\xfccher.example",
        b"null",
        b"",
        written + b"/",
        written + b":443",
        written.removesuffix(b"/"),
        written.swapcase(),
        b" " + written,
        *(one.encode() for one in LISTED),
        *hostile_origins("https://example.com").values(),
    ]
    assert [one for one in others if one != written and check.check(scope(one)) is None] == []


@pytest.mark.parametrize("origin", LISTED)
def test_listed_for_one_handler_it_fits_there_only(origin: str):
    check = OriginCheck()
    assert check.check(scope(origin.encode()), (origin,)) is None
    assert status(check.check(scope(origin.encode()))) == 403


def test_an_empty_list_allows_no_browser():
    check = OriginCheck([])
    assert status(check.check(scope(OWN.encode()))) == 403
    assert check.check(scope()) is None


def test_a_star_turns_the_origin_check_off_and_not_the_host_check():
    check = OriginCheck(["*"])
    assert check.check(scope(b"http://evil.example")) is None
    assert check.check(scope(b"null")) is None
    assert status(check.check(scope(b"null", host=b"evil.example"))) == 400


def test_a_star_in_the_trusted_origins_trusts_nobody():
    with override_settings(CSRF_TRUSTED_ORIGINS=["*", "https://*", "*://*"]):
        assert status(OriginCheck().check(scope(b"https://evil.example"))) == 403
    assert status(OriginCheck(["https://*"]).check(scope(b"https://evil.example"))) == 403


def test_origins_of_a_handler_replace_the_setting():
    check = OriginCheck(["http://site.example"])
    allowed = ("http://handler.example",)
    assert check.check(scope(b"http://handler.example"), allowed) is None
    assert status(check.check(scope(b"http://site.example"), allowed)) == 403
    assert check.check(scope(b"http://site.example")) is None
    assert status(check.check(scope(b"http://handler.example"))) == 403


@pytest.mark.parametrize(
    ("scheme", "host", "origins"),
    [
        ("wss", "testserver:443", ["https://testserver", "https://testserver:443"]),
        ("ws", "testserver:80", ["http://testserver", "http://testserver:80"]),
        ("wss", "[::1]:443", ["https://[::1]", "https://[::1]:443"]),
        ("wss", "testserver", ["https://testserver"]),
        ("ws", "testserver:443", ["http://testserver:443"]),
        ("wss", "testserver:80", ["https://testserver:80"]),
        ("wss", "testserver:0443", ["https://testserver:0443"]),
        ("wss", "testserver:8443", ["https://testserver:8443"]),
    ],
)
@override_settings(ALLOWED_HOSTS=["testserver", "[::1]"])
def test_a_host_with_the_default_port_is_the_origin_of_its_page(
    scheme: str, host: str, origins: list[str]
):
    domain = "[::1]" if host.startswith("[") else "testserver"
    possible = [
        f"{scheme}://{domain}{port}"
        for scheme in ("http", "https", "ws", "wss")
        for port in ("", ":80", ":443", ":0443", ":8443", ":")
    ]
    check = OriginCheck()
    for _ in range(2):
        let_in = [
            origin
            for origin in possible
            if check.check(scope(origin.encode(), scheme=scheme, host=host.encode())) is None
        ]
        assert let_in == origins


@pytest.mark.parametrize("port", [b"", b":443"])
def test_a_hostile_origin_of_a_page_with_tls_is_refused(port: bytes):
    own = "https://testserver"
    check = OriginCheck()
    secure = {"scheme": "wss", "host": b"testserver" + port}
    assert check.check(scope(own.encode(), **secure)) is None
    for name, origin in (hostile_origins(own) | altered_origins(own)).items():
        if origin != b"https://" + secure["host"]:
            assert status(check.check(scope(origin, **secure))) == 403, name


# Host


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"testserver.evil.example",
        b"testserver@evil.example",
        b"testserver,testserver",
        b"testserver:port",
        b"testserver:80:80",
        b"",
        b"*",
        b"testserver/",
        b"\xff\xfe",
        b"[::1",
        b"a" * 5000,
    ],
)
def test_a_bad_host_is_a_400(host: bytes):
    check = OriginCheck()
    assert status(check.check(scope(host=host))) == 400
    assert status(check.check(scope(b"http://" + host, host=host))) == 400
    assert status(check.check_host(scope(host=host))) == 400


def test_two_hosts_are_a_400():
    check = OriginCheck()
    assert check.check(scope(OWN.encode())) is None
    for second in (b"testserver:8000", b"evil.example"):
        twice = scope(OWN.encode(), headers=[(b"host", second)])
        assert status(check.check(twice)) == 400
        assert status(check.check_host(twice)) == 400


def test_an_allowed_host_passes_alone():
    assert OriginCheck().check_host(scope(b"http://evil.example")) is None


@override_settings(ALLOWED_HOSTS=[], DEBUG=True)
def test_while_debugging_localhost_is_allowed_as_on_a_page():
    check = OriginCheck()
    for host in (b"localhost:8000", b"a.localhost", b"127.0.0.1", b"[::1]:8000"):
        assert check.check(scope(host=host)) is None
    refusal = check.check(scope(host=b"testserver"))
    assert status(refusal) == 400
    assert "ALLOWED_HOSTS is empty" in refusal.reason


@override_settings(ALLOWED_HOSTS=["127.0.0.1"])
def test_without_a_host_the_address_of_the_server_counts():
    check = OriginCheck()
    assert check.check(scope(host=None)) is None
    assert check.check(scope(b"http://127.0.0.1:8000", host=None)) is None
    assert status(check.check(scope(host=None, server=("10.0.0.1", 8000)))) == 400
    assert status(check.check(scope(host=None, server=None))) == 400
    assert status(check.check(scope(host=None, server=["/run/site.sock", None]))) == 400


def test_a_scope_without_headers_is_refused_and_raises_nothing():
    bare = {"type": "websocket", "path": "/ws/"}
    assert status(OriginCheck().check(bare)) == 400
    assert status(OriginCheck().check_host(bare)) == 400


def test_what_is_no_request_is_a_400():
    refusal = OriginCheck().check(scope(query_string=b"secret=\xff"))
    assert status(refusal) == 400
    assert "secret" not in refusal.reason


# Proxies


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_a_proxy_that_ends_tls_is_believed():
    check = OriginCheck()
    https = [(b"x-forwarded-proto", b"https")]
    for _ in range(2):
        assert check.check(scope(b"https://testserver:8000", headers=https)) is None
        assert status(check.check(scope(b"https://testserver:8000"))) == 403
        assert check.check(scope(b"http://testserver:8000")) is None
        assert status(check.check(scope(b"http://testserver:8000", headers=https))) == 403
        http = [(b"x-forwarded-proto", b"http")]
        assert status(check.check(scope(b"https://testserver:8000", headers=http))) == 403


@override_settings(USE_X_FORWARDED_HOST=True, ALLOWED_HOSTS=["public.example", "inside"])
def test_a_proxy_that_forwards_the_host_is_believed():
    check = OriginCheck()
    public = [(b"x-forwarded-host", b"public.example")]
    evil = [(b"x-forwarded-host", b"evil.example")]
    for _ in range(2):
        assert check.check(scope(b"http://public.example", host=b"inside", headers=public)) is None
        assert status(check.check(scope(b"http://public.example", host=b"inside"))) == 403
        refusal = check.check(scope(b"http://evil.example", host=b"inside", headers=evil))
        assert status(refusal) == 400
        assert "X-Forwarded-Host 'evil.example'" in refusal.reason


@pytest.mark.parametrize("value", [b"wss", b"WSS", b"wss, https", b"wss,http"])
@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_a_proxy_may_write_what_the_browser_wrote(value: bytes):
    check = OriginCheck()
    wss = [(b"x-forwarded-proto", value)]
    for _ in range(2):
        assert check.check(scope(b"https://testserver:8000", headers=wss)) is None
        assert status(check.check(scope(OWN.encode(), headers=wss))) == 403
        assert status(check.check(scope(b"wss://testserver:8000", headers=wss))) == 403
    twice = [*wss, (b"x-forwarded-proto", b"http")]
    assert check.check(scope(b"https://testserver:8000", headers=twice)) is None
    ws = [(b"x-forwarded-proto", b"ws")]
    assert check.check(scope(OWN.encode(), headers=ws)) is None
    assert status(check.check(scope(b"https://testserver:8000", headers=ws))) == 403


def test_without_the_settings_no_proxy_is_believed():
    forged = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"evil.example")]
    check = OriginCheck()
    assert status(check.check(scope(b"https://testserver:8000", headers=forged))) == 403
    assert status(check.check(scope(b"http://evil.example", headers=forged))) == 403
    assert check.check(scope(OWN.encode(), headers=forged)) is None


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO",))
def test_a_wrong_proxy_setting_is_named_at_once():
    with pytest.raises(ImproperlyConfigured, match="SECURE_PROXY_SSL_HEADER"):
        OriginCheck()


# What is remembered


@override_settings(ALLOWED_HOSTS=["*"])
def test_what_is_remembered_is_bounded():
    check = OriginCheck()
    for number in range(2 * MEMO_SIZE):
        host = b"h%d.example" % number
        assert check.check(scope(b"http://" + host, host=host)) is None
    assert len(check._rules.accepted) <= MEMO_SIZE + 1
    long = b"a" * 2000
    check._rules.accepted.clear()
    assert check.check(scope(b"http://" + long, host=long)) is None
    assert not check._rules.accepted


def test_what_is_remembered_is_no_excuse_for_another_combination():
    with override_settings(ALLOWED_HOSTS=["a.example", "b.example"]):
        check = OriginCheck()
        assert check.check(scope(b"http://a.example", host=b"a.example")) is None
        assert check.check(scope(b"http://b.example", host=b"b.example")) is None
        assert status(check.check(scope(b"http://a.example", host=b"b.example"))) == 403
        swapped = scope(b"a.example", host=b"http://a.example")
        assert status(check.check(swapped)) == 400


# Comparison with Django


def django_allows(connection: Any) -> bool:
    request = build_request(connection)
    return CsrfViewMiddleware(lambda request: None)._origin_verified(request)


def mutations(seed: int, count: int) -> list[bytes]:
    chooser = random.Random(seed)
    bases = [OWN, "https://example.com", "https://a.example.com", "https://x.org:81"]
    pieces = ["", ":", "/", "//", "@", ".", ",", "#", "?", "\\", " ", "%", "*", "[", "]", "\x00"]
    pieces += ["evil", "example.com", "https", "http", ":80", ":443", "\xe9", "\t", "A", "null"]
    made = []
    for _ in range(count):
        text = chooser.choice(bases)
        for _ in range(chooser.randint(0, 3)):
            start = chooser.randint(0, len(text))
            end = min(len(text), start + chooser.choice([0, 0, 1, 3]))
            text = text[:start] + chooser.choice(pieces) + text[end:]
        made.append(text.encode("latin-1"))
    return made


@pytest.mark.parametrize(
    "trusted", [[], [WILDCARD], ["https://x.org:81", "https://*.x.org:81", "http://*.testserver"]]
)
def test_what_django_refuses_is_refused(trusted: list[str]):
    origins = [*HOSTILE.values(), *mutations(20, 3000)]
    with override_settings(CSRF_TRUSTED_ORIGINS=trusted):
        check = OriginCheck()
        let_in = [origin for origin in origins if check.check(scope(origin)) is None]
        assert [origin for origin in let_in if not django_allows(scope(origin))] == []
        assert OWN.encode() in let_in


def test_what_a_browser_sends_is_answered_as_django_answers():
    hosts = ["testserver", "example.com", "a.example.com", "[::1]", "xn--e1afmkfd.example.com"]
    trusted = [WILDCARD, "http://*.example.com:81", "http://[::1]:82", "http://testserver:83"]
    with override_settings(CSRF_TRUSTED_ORIGINS=trusted):
        check = OriginCheck()
        for scheme in ("http", "https", "ws"):
            for host in hosts:
                for port in ("", ":81", ":82", ":83", ":8000"):
                    connection = scope(f"{scheme}://{host}{port}".encode())
                    allowed = check.check(connection) is None
                    assert allowed is django_allows(connection), connection["headers"]


# What the log says


def test_the_reason_says_what_came_what_was_expected_and_which_setting_decides():
    with override_settings(CSRF_TRUSTED_ORIGINS=["https://x.org"]):
        reason = OriginCheck().check(scope(b"https://evil.example")).reason
    assert "'https://evil.example'" in reason
    assert "'http://testserver:8000'" in reason
    assert "CSRF_TRUSTED_ORIGINS ['https://x.org']" in reason
    for setting in ("WEBSOCKET_ALLOWED_ORIGINS", "USE_X_FORWARDED_HOST", "SECURE_PROXY_SSL_HEADER"):
        assert setting in reason


PROXY = {
    "USE_X_FORWARDED_HOST": True,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
}


def test_the_reason_advises_only_what_is_not_set():
    def advice(**settings: Any) -> str:
        with override_settings(**settings):
            reason = OriginCheck().check(scope(b"https://evil.example")).reason
        return reason.partition("]. ")[2]

    assert advice() == (
        "Behind a proxy set USE_X_FORWARDED_HOST if it changes Host and SECURE_PROXY_SSL_HEADER "
        "if it ends TLS. Allow other pages with WEBSOCKET_ALLOWED_ORIGINS."
    )
    assert advice(USE_X_FORWARDED_HOST=True) == (
        "USE_X_FORWARDED_HOST is set, and there was no X-Forwarded-Host. Behind a proxy set "
        "SECURE_PROXY_SSL_HEADER if it ends TLS. Allow other pages with WEBSOCKET_ALLOWED_ORIGINS."
    )
    assert advice(SECURE_PROXY_SSL_HEADER=("HTTP_X_SCHEME", "https")) == (
        "SECURE_PROXY_SSL_HEADER waits for 'https', and there was no X-Scheme. Behind a proxy set "
        "USE_X_FORWARDED_HOST if it changes Host. Allow other pages with "
        "WEBSOCKET_ALLOWED_ORIGINS."
    )
    assert "Behind a proxy set" not in advice(**PROXY)


@override_settings(**PROXY)
def test_the_reason_says_what_a_proxy_said():
    def reason(proto: bytes, host: bytes = b"testserver") -> str:
        headers = [(b"x-forwarded-proto", proto), (b"x-forwarded-host", host)]
        return OriginCheck().check(scope(b"https://evil.example", headers=headers)).reason

    assert "waits for 'https', and X-Forwarded-Proto was 'http'." in reason(b"http")
    assert "X-Forwarded-Proto was 'wss', read as 'https'." in reason(b"wss")
    assert "USE_X_FORWARDED_HOST is set, and X-Forwarded-Host was 'testserver:81'." in reason(
        b"http", b"testserver:81"
    )
    assert r"X-Forwarded-Proto was 'a\nb\x1b'." in reason(b"a\nb\x1b")
    assert f"X-Forwarded-Proto was '{'a' * 200}'...." in reason(b"a" * 5000)
    assert len(reason(b"\xff" * 5000)) < 1200
    assert reason(b"\xff" * 5000).isascii()


def test_the_reason_names_the_list_that_decides():
    check = OriginCheck(["https://x.org"])
    assert "WEBSOCKET_ALLOWED_ORIGINS ['https://x.org']" in check.check(scope(b"null")).reason
    reason = check.check(scope(b"null"), ["https://y.org"]).reason
    assert "allowed_origins() ['https://y.org']" in reason


def test_the_reason_for_a_bad_host_names_allowed_hosts():
    reason = OriginCheck().check(scope(host=b"evil.example")).reason
    assert reason.startswith("Host 'evil.example' is not allowed: expected one of ALLOWED_HOSTS [")


@pytest.mark.parametrize("name", HOSTILE)
def test_the_reason_is_one_short_line_of_ascii(name: str):
    reason = OriginCheck().check(scope(HOSTILE[name])).reason
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 1000
