"""The opening handshake: what is read fast is what websockets reads, and what is answered."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.uri import parse_uri

from django_ws_dispatch.uvicorn import opening
from django_ws_dispatch.uvicorn.opening import (
    Handshake,
    Memory,
    accepted,
    denied,
    handshake_of,
    refused,
)

# RFC 6455 section 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
USUAL = {
    b"Host": b"example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
DEFLATE = b"permessage-deflate; client_max_window_bits"


def request(
    *more: tuple[bytes, bytes], line: bytes = b"GET / HTTP/1.1", **instead: bytes | None
) -> bytes:
    """A request: the usual headers, some of them otherwise or left out, and more."""
    headers = dict(USUAL)
    for name, value in instead.items():
        key = next(one for one in headers if one.lower() == name.encode().replace(b"_", b"-"))
        if value is None:
            del headers[key]
        else:
            headers[key] = value
    lines = [line, *(b"%b: %b" % header for header in [*headers.items(), *more])]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def memory(deflate: bool = True) -> Memory:
    return Memory(deflate, 1000)


def read(data: bytes, deflate: bool = True) -> Handshake:
    found = memory(deflate).read(data)
    assert found is not None
    return found


def read_by_websockets(data: bytes, deflate: bool = True) -> Handshake | Response | None:
    """What it asks for, or what is answered; ``None`` where it is no request."""
    core = memory(deflate).core()
    core.receive_data(data)
    for event in core.events_received():
        assert isinstance(event, Request)
        return handshake_of(core, event)
    return None


def test_the_usual_handshake_is_read():
    found = read(
        request(
            (b"Cookie", b"a=1"),
            (b"X-A", b"\t 1 \t"),
            (b"x-a", b"caf\xe9"),
            (b"Sec-WebSocket-Protocol", b"chat, v2 ,v3"),
            (b"Sec-WebSocket-Extensions", DEFLATE),
            line=b"GET /caf%C3%A9/?a=b HTTP/1.1",
        )
    )
    assert found.path == "/caf%C3%A9/?a=b"
    assert found.headers == [
        (b"host", b"example.com"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
        (b"cookie", b"a=1"),
        (b"x-a", b"1"),
        (b"x-a", b"caf\xe9"),
        (b"sec-websocket-protocol", b"chat, v2 ,v3"),
        (b"sec-websocket-extensions", DEFLATE),
    ]
    assert found.subprotocols == ["chat", "v2", "v3"]
    assert found.accept == ACCEPT
    assert found.reads
    assert found.writes


USUALS = {
    "no more than it needs": request(),
    "more options of the connection": request(connection=b"keep-alive, upgrade"),
    "an upgrade in other letters": request(upgrade=b"WebSocket"),
    "subprotocols in two lines": request(
        (b"Sec-WebSocket-Protocol", b"a"), (b"sec-websocket-protocol", b"b,c")
    ),
    "an extension that nobody knows": request((b"Sec-WebSocket-Extensions", b"x-strange; a=1")),
    "deflate twice": request((b"Sec-WebSocket-Extensions", b"permessage-deflate, " + DEFLATE)),
    "deflate with a small window": request(
        (b"Sec-WebSocket-Extensions", b"permessage-deflate; server_max_window_bits=10")
    ),
    "an origin": request((b"Origin", b"https://example.com")),
    "a body of no bytes": request((b"Content-Length", b"0")),
    "empty values": request((b"X-A", b""), (b"X-B", b"  ")),
    "a cookie twice": request((b"Cookie", b"a=1"), (b"Cookie", b"b=2")),
    "a long value": request((b"X-A", b"a" * 7000)),
    "many headers": request(*[(b"X-A", b"a")] * 122),
    "a path of any characters": request(line=b'GET /a"<>[]^`{|}\\?#%zz HTTP/1.1'),
}


@pytest.mark.parametrize("deflate", [True, False])
@pytest.mark.parametrize("data", USUALS.values(), ids=USUALS)
def test_what_is_read_is_what_websockets_reads(data, deflate):
    assert read(data, deflate) == read_by_websockets(data, deflate)


UNUSUALS = {
    "nothing": b"",
    "not whole": request()[:-1],
    "bytes behind it": request() + b"\x81\x80mask",
    "a frame behind it": request() + b"\x81\x84\0\0\0\0\r\n\r\n",
    "another method": request(line=b"POST / HTTP/1.1"),
    "a method in other letters": request(line=b"get / HTTP/1.1"),
    "an older version": request(line=b"GET / HTTP/1.0"),
    "no version": request(line=b"GET /"),
    "no path": request(line=b"GET  HTTP/1.1"),
    "a blank in the path": request(line=b"GET /a b HTTP/1.1"),
    "a line break in the path": request(line=b"GET /\n HTTP/1.1"),
    "a path that is not ASCII": request(line=b"GET /\xc3\xa9 HTTP/1.1"),
    "no upgrade": request(upgrade=None),
    "another upgrade": request(upgrade=b"h2c"),
    "two upgrades": request((b"Upgrade", b"websocket")),
    "no connection": request(connection=None),
    "another connection": request(connection=b"keep-alive"),
    "a connection that can not be read": request(connection=b"Upgrade, a b"),
    "no key": request(sec_websocket_key=None),
    "a short key": request(sec_websocket_key=b"c2hvcnQ="),
    "a key that is no base64": request(sec_websocket_key=b"%" * 24),
    "a key without its end": request(sec_websocket_key=KEY[:-2]),
    "a key that is not ASCII": request(sec_websocket_key=b"\xe9"),
    "two keys": request((b"Sec-WebSocket-Key", KEY)),
    "no version of websockets": request(sec_websocket_version=None),
    "an older version of websockets": request(sec_websocket_version=b"8"),
    "two versions of websockets": request((b"Sec-WebSocket-Version", b"13")),
    "two lines of extensions": request(
        (b"Sec-WebSocket-Extensions", DEFLATE), (b"Sec-WebSocket-Extensions", b"x-strange")
    ),
    "extensions that can not be read": request((b"Sec-WebSocket-Extensions", b";;")),
    "extensions that are not ASCII": request((b"Sec-WebSocket-Extensions", b"\xe9")),
    "a subprotocol that can not be read": request((b"Sec-WebSocket-Protocol", b"a b")),
    "no subprotocol": request((b"Sec-WebSocket-Protocol", b"")),
    "a subprotocol that is not ASCII": request((b"Sec-WebSocket-Protocol", b"\xe9")),
    "two origins": request((b"Origin", b"a"), (b"Origin", b"b")),
    "a body": request((b"Content-Length", b"5")),
    "two lengths": request((b"Content-Length", b"0"), (b"Content-Length", b"5")),
    "a body in chunks": request((b"Transfer-Encoding", b"chunked")),
    "a folded header": request((b"X-A", b"a\r\n b")),
    "a header without a name": request((b"", b"a")),
    "a blank in a name": request((b"X A", b"a")),
    "a name that is not ASCII": request((b"X-\xe9", b"a")),
    "a NUL": request((b"X-A", b"a\0")),
    "a line break of its own": request((b"X-A", b"a\nX-B: b")),
    "a line without a colon": request()[:-2] + b"strange\r\n\r\n",
    "a very long request": request((b"X-A", b"a" * 8000), (b"X-B", b"a" * 8000)),
    "too many headers": request(*[(b"X-A", b"a")] * 130),
}


@pytest.mark.parametrize("data", UNUSUALS.values(), ids=UNUSUALS)
def test_what_is_unusual_is_not_read(data):
    assert memory().read(data) is None


@pytest.mark.parametrize(
    "data", [request((b"X-A", b"\xe9")), request(*[(b"X-A", b"caf\xe9" * 1500)] * 2)]
)
def test_what_websockets_reads_keeps_its_bytes(data):
    found = read_by_websockets(data)
    assert isinstance(found, Handshake)
    name, value = found.headers[-1]
    assert b"\r\nX-A: %b\r\n\r\n" % value in data
    assert name == b"x-a"


def test_what_websockets_before_17_reads_keeps_its_bytes_too(monkeypatch):
    value = b"caf\xe9".decode("ascii", "surrogateescape")
    monkeypatch.setattr(Headers, "raw_items", lambda self: [("X-A", value)])
    found = read_by_websockets(request())
    assert isinstance(found, Handshake)
    assert found.headers == [(b"x-a", b"caf\xe9")]


def test_what_websockets_refuses_is_its_answer():
    found = read_by_websockets(request(upgrade=None))
    assert isinstance(found, Response)
    assert found.status_code == 426


names = st.sampled_from([*USUAL, b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"X-A"])
names |= st.sampled_from([b"Origin", b"Content-Length", b"Transfer-Encoding", b"cookie", b"X A"])
values = st.sampled_from([b"Upgrade", b"websocket", b"13", KEY, b"a, b", b"a,,b", b"0", DEFLATE])
values |= st.binary(max_size=5) | st.sampled_from([b"keep-alive , Upgrade", b"upgrade,", b" "])
targets = st.sampled_from([b"/", b"/a?b=c", b"*", b"http://a/"]) | st.binary(max_size=5)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(
    st.lists(st.tuples(names, values), max_size=3),
    st.lists(st.sampled_from([*USUAL]), max_size=1),
    targets,
    st.booleans(),
)
def test_whatever_is_read_is_what_websockets_reads(more, without, target, deflate):
    left = [header for header in USUAL.items() if header[0] not in without]
    lines = [b"GET %b HTTP/1.1" % target, *(b"%b: %b" % header for header in [*left, *more])]
    data = b"\r\n".join(lines) + b"\r\n\r\n"
    found = memory(deflate).read(data)
    assert found is None or found == read_by_websockets(data, deflate)


# What is remembered


def test_header_lines_are_kept_once_but_no_secrets():
    one = memory()
    secrets = [(b"Cookie", b"a=1"), (b"Authorization", b"b"), (b"X-Long", b"c" * 600)]
    data = request(*secrets, (b"X-A", b"a"))
    first, second = one.read(data), one.read(data)
    assert first is not None
    assert first == second
    remembered = {name for name, _ in one._lines.values()}
    assert remembered == {b"host", b"upgrade", b"connection", b"sec-websocket-version", b"x-a"}
    assert second is not None
    assert second.headers[0] is first.headers[0]
    assert second.headers is not first.headers


def test_not_without_end_is_remembered(monkeypatch):
    monkeypatch.setattr(opening, "MOST_LINES", 10)
    monkeypatch.setattr(opening, "MOST_OFFERS", 3)
    one = memory()
    for number in range(100):
        offer = b"x-strange; a=%d, %b" % (number, DEFLATE)
        data = request((b"X-A", b"%d" % number), (b"Sec-WebSocket-Extensions", offer))
        assert one.read(data) == read_by_websockets(data)
        assert len(one._lines) <= 10
        assert len(one._offers) <= 3


def test_a_long_offer_is_not_remembered():
    one = memory()
    data = request((b"Sec-WebSocket-Extensions", b"x-strange; a=%b, %b" % (b"a" * 600, DEFLATE)))
    assert one.read(data) == read_by_websockets(data)
    assert not one._offers


# Answers


def answered(answer: bytes, *, subprotocols: list[str] | None = None) -> ClientProtocol:
    """A client that has read it; it asked with the usual key."""
    client = ClientProtocol(parse_uri("ws://example.com/"), subprotocols=subprotocols)
    client.key = KEY.decode()
    client.send_request(client.connect())
    client.receive_data(answer)
    client.receive_eof()
    return client


def response_of(client: ClientProtocol) -> Response:
    (response,) = client.events_received()
    assert isinstance(response, Response)
    return response


def test_an_accepted_handshake_has_what_the_client_waits_for():
    handshake = read(request((b"Sec-WebSocket-Protocol", b"a, b")))
    answer = accepted(handshake, [(b"x-a", b"1"), (b"x-a", b"\xe9")], "b")
    client = answered(answer, subprotocols=["a", "b"])
    assert client.handshake_exc is None
    assert client.subprotocol == "b"
    response = response_of(client)
    assert (response.status_code, response.reason_phrase) == (101, "Switching Protocols")
    assert response.headers.get_all("X-A") == ["1", "é"]
    assert "Sec-WebSocket-Extensions" not in response.headers


def test_an_accepted_handshake_says_which_extension():
    answer = accepted(read(request((b"Sec-WebSocket-Extensions", DEFLATE))), ())
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; " in answer
    assert b"client_no_context_takeover" in answer
    assert b"Sec-WebSocket-Protocol" not in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_denial_has_what_is_usual_where_the_application_does_not_say():
    response = response_of(answered(denied(404, (), 5) + b"no..."))
    assert (response.status_code, response.reason_phrase) == (404, "Not Found")
    assert response.body == b"no..."
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Connection"] == "close"
    assert response.headers["Date"].endswith(" GMT")


def test_a_denial_has_what_the_application_says():
    names = b"Date", b"CONNECTION", b"content-length", b"Content-Type", b"X-A", b"X-A"
    answer = denied(200, iter([(name, b"2") for name in names]), 5)
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: 2\r\n" % name for name in names) + b"\r\n"
    assert answer == head


def test_the_end_of_a_denial_may_tell_its_size():
    response = response_of(answered(denied(599, (), None) + b"so long"))
    assert (response.status_code, response.reason_phrase) == (599, "")
    assert response.body == b"so long"
    assert "Content-Length" not in response.headers


def test_the_servers_own_answers_have_a_body():
    for status in HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INTERNAL_SERVER_ERROR:
        response = response_of(answered(refused(status)))
        assert response.status_code == status
        assert response.body == status.phrase.encode()


@pytest.mark.parametrize(
    "header", [(b"x-a", b"1\r\n"), (b"x-a", b"\r"), (b"x-a", b"\n"), (b"x\n", b""), (b"\0", b"")]
)
def test_no_header_holds_what_would_end_it(header):
    with pytest.raises(ValueError, match="line break or NUL"):
        accepted(read(request()), [header])
    with pytest.raises(ValueError, match="line break or NUL"):
        denied(404, [header], 0)


def test_no_subprotocol_holds_what_would_end_it():
    with pytest.raises(ValueError, match="line break or NUL"):
        accepted(read(request()), (), "a\r\nx-a: 1")
