"""The subprotocol on one socket: the first frame, what its client sends, and what is answered."""

from __future__ import annotations

import asyncio
import json

import pytest
from django.core.exceptions import PermissionDenied

from django_ws_dispatch.decorators import max_message_size, rate_limit, subprotocols
from django_ws_dispatch.exceptions import WebSocketDisconnect
from django_ws_dispatch.groups.tokens import encode
from django_ws_dispatch.websockets import WebSocket, envelope

from ..kit.fake_server import hurry, only_socket, serving
from ..kit.waiting import until
from .echoes import echo, lines, raw_echo
from .speaking import V1, both_halves, offer, parsed, speaking

pytestmark = pytest.mark.asyncio


# The handshake


@both_halves
async def test_the_first_frame_says_who_the_socket_is_and_how_often_to_ping(halves):
    async with speaking(halves, echo) as client:
        await until(lambda: client.messages)
        head, payload = parsed(client.messages[0])
        assert head == ["hello", only_socket().id, {"ping": 25}]
        assert payload == ""


@pytest.mark.parametrize(
    ("idle", "ping"), [(None, 25), (600, 25), (50, 25), (49, 24.5), (10, 5), (1, 0.5)]
)
async def test_a_client_pings_twice_in_the_idle_time_out_at_least(idle, ping):
    async with serving(
        echo, scope={"subprotocols": offer()}, WEBSOCKET_IDLE_TIMEOUT=idle
    ) as server:
        (hello,) = await server.sends(1)
        assert parsed(hello).head[2] == {"ping": ping}


async def test_the_subprotocol_is_answered_and_none_of_the_handlers_business():
    seen = []

    async def handler(websocket):
        seen.append((websocket.subprotocol, websocket.subprotocols))
        await websocket.accept()
        seen.append((websocket.subprotocol, websocket.subprotocols))

    async with serving(handler, scope={"subprotocols": offer("e30", ["chat"])}) as server:
        await server.ended()
        assert server.sent[0] == {"type": "websocket.accept", "subprotocol": V1}
    assert seen == [(None, ["chat"]), (None, ["chat"])]


async def test_a_client_that_does_not_offer_it_has_frames_without_a_head():
    async with serving(echo, scope={"subprotocols": ["since.e30", "chat"]}) as server:
        server.message('["ping",1]\n', "hi")
        assert await server.sends(2) == ['["ping",1]\n', "hi"]
        assert server.sent[0] == {"type": "websocket.accept"}
        assert only_socket().subprotocols == ["since.e30", "chat"]
        assert only_socket().since == {}


async def test_a_subprotocol_that_the_handler_declares_and_the_client_offers_comes_first():
    declared = subprotocols("chat.v2", "chat")(echo)
    async with serving(declared, scope={"subprotocols": [V1, "since.e30", "chat"]}) as server:
        server.message('["ping",1]\n')
        assert await server.sends(1) == ['["ping",1]\n']
        assert server.sent[0]["subprotocol"] == only_socket().subprotocol == "chat"


async def test_it_is_spoken_where_none_that_the_handler_declares_is_offered():
    declared = subprotocols("chat.v2", "chat")(echo)
    async with serving(declared, scope={"subprotocols": offer(None, ["other"])}) as server:
        server.message("\nhi")
        assert (await server.sends(2))[1] == "\nhi"
        assert server.sent[0]["subprotocol"] == V1


async def test_a_subprotocol_that_is_named_in_the_accept_comes_first():
    async def handler(websocket):
        await websocket.accept(subprotocol="chat")
        await echo(websocket)

    async with serving(handler, scope={"subprotocols": offer("e30", ["chat"])}) as server:
        server.message('["ping",1]\n')
        assert await server.sends(1) == ['["ping",1]\n']
        assert server.sent[0]["subprotocol"] == only_socket().subprotocol == "chat"


async def test_the_subprotocol_may_be_named_in_the_accept():
    async def handler(websocket):
        await websocket.accept(subprotocol=V1)
        await echo(websocket)

    async with serving(handler, scope={"subprotocols": offer()}) as server:
        server.message("\nhi")
        assert (await server.sends(2))[1] == "\nhi"


async def test_what_was_not_offered_is_told_without_what_is_ours():
    async def handler(websocket):
        with pytest.raises(ValueError, match="'v9' but 'chat'") as raised:
            await websocket.accept(subprotocol="v9")
        assert "dispatch" not in str(raised.value)
        assert "since" not in str(raised.value)

    async with serving(handler, scope={"subprotocols": offer("e30", ["chat"])}) as server:
        await server.ended()


async def test_a_raw_handler_chooses_by_itself():
    async with serving(raw_echo, scope={"subprotocols": offer("e30")}) as server:
        server.message('["ping",1]\n', "hi")
        assert await server.sends(2) == ['["ping",1]\n', "hi"]
        assert server.sent[0] == {"type": "websocket.accept"}


async def test_a_raw_handler_that_chooses_it_writes_its_frames_by_itself():
    async def handler(scope, receive, send):
        assert scope["subprotocols"] == offer("e30")
        await receive()
        await send({"type": "websocket.accept", "subprotocol": V1})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()

    async with serving(handler, scope={"subprotocols": offer("e30")}) as server:
        server.message('["ping",1]\n')
        assert await server.sends(1) == ['["ping",1]\n']
        assert server.sent[0]["subprotocol"] == V1


async def test_a_denied_handshake_says_no_more_than_any():
    async def handler(websocket):
        raise PermissionDenied

    async with serving(handler, scope={"subprotocols": offer("e30")}) as server:
        await server.ended()
        assert server.denied[0] == 403
        assert server.data == []


# What it brings


async def test_what_the_client_brought_is_there_before_the_accept():
    seen = []

    async def handler(websocket):
        seen.append(websocket.since)
        await websocket.accept()
        seen.append(websocket.since)

    token = encode({"room:a": "1.2-3"}, ["one"])
    async with serving(handler, scope={"subprotocols": offer(token)}) as server:
        await server.ended()
    assert seen == [{"room:a": "1.2-3"}] * 2


@pytest.mark.parametrize("token", ["", "!", "W10", "A" * 100_000, None])
async def test_a_token_that_can_not_be_read_is_as_good_as_none(token, caplog):
    async with serving(echo, scope={"subprotocols": offer(token)}) as server:
        server.message("\nhi")
        assert (await server.sends(2))[1] == "\nhi"
        assert only_socket().since == {}
    assert lines(caplog) == []


async def test_of_two_tokens_the_first_is_read_and_it_may_come_first():
    tokens = [f"since.{encode({'room:a': position})}" for position in ("1.2-3", "4.5-6")]
    async with serving(echo, scope={"subprotocols": [*tokens, V1]}) as server:
        await server.accepted()
        assert only_socket().since == {"room:a": "1.2-3"}
        assert only_socket().subprotocols == []


# What comes


@both_halves
async def test_a_handler_sees_payloads_and_the_client_frames(halves):
    async with speaking(halves, echo) as client:
        sent = ["one", b"two", "", b"", "\n", "a\nb", b"\n\n", "\u00e9" * 1000]
        for one in sent:
            client.says("\n" + one if isinstance(one, str) else b"\n" + one)
        await client.sees(*sent)
        assert client.heads == [None] * len(sent)


BROKEN = [
    "",
    "hi",
    b"",
    b"hi",
    '["ping",1]',
    "x\n",
    "{\n",
    "[\n",
    "null\n",
    "1\n",
    '"ping"\n',
    "{}\n",
    "[]\n",
    " \nhi",
    "\r\nhi",
    '["ping"]\n',
    '["ping",1,2]\n',
    '["ping","1"]\n',
    '["ping",1.5]\n',
    '["ping",1.0]\n',
    '["ping",true]\n',
    '["ping",null]\n',
    '["ping",[1]]\n',
    '["PING",1]\n',
    '["pong",1]\n',
    '["m","room:a","1.2-3"]\nhi',
    '["hello"]\n',
    '["later",1]\n',
    '["ping",\n1]\n',
    b"\xff\xfe\n",
    b'["ping",1,"\xff"]\n',
    "[" * 200 + "\n",
    "[" * 1_000_000 + "\n",
    "x" * 1_000_000,
    b"\0" * 100,
    '["ping",' + " " * 247 + "1]\n",
    '["ping",1,"' + "\u00e9" * 130 + '"]\n',
]


@both_halves
@pytest.mark.parametrize("frame", BROKEN, ids=range(len(BROKEN)))
async def test_a_frame_that_is_none_closes_with_4400_and_one_line_of_the_log(halves, frame, caplog):
    got = []

    async def handler(websocket):
        got.extend([message async for message in websocket])
        got.append(websocket.close_code)

    async with speaking(halves, handler) as client:
        client.says("\none", frame, "\ntwo")
        assert await client.closed() == 4400
        await until(lambda: got[-1:] == [4400])
    assert got == ["one", 4400]
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "with 4400: a frame " in line


async def test_what_is_refused_says_so_and_quotes_nothing(caplog):
    async with serving(echo, scope={"subprotocols": offer()}) as server:
        server.message('["secret"]\n')
        await until(lambda: server.closed)
        assert server.closed == (4400, f"not a frame of {V1}")
    assert "secret" not in caplog.text


@both_halves
async def test_a_broken_frame_ends_a_socket_whose_handler_does_something_else(halves, monkeypatch):
    hurry(monkeypatch)
    over = asyncio.Event()

    async def handler(websocket):
        await websocket.receive()
        await over.wait()

    async with speaking(halves, handler) as client:
        client.says("\none", "broken")
        assert await client.closed() == 4400
        over.set()


# Pings


@both_halves
@pytest.mark.parametrize("number", [0, 1, -7, 10**15, 10**200])
async def test_a_ping_is_answered_with_its_number_and_the_handler_reads_on(halves, number):
    async with speaking(halves, echo) as client:
        client.says(json.dumps(["ping", number]) + "\n")
        await client.has(["pong", number])
        client.says("\nhi")
        await client.sees("hi")
        assert client.heads == [["pong", number], None]
        assert client.frames[0].payload == ""


@both_halves
@pytest.mark.parametrize(
    "frame",
    [
        b'["ping",1]\n',
        '["ping",1]\nwhatever',
        ' [ "ping" , 1 ] \n',
        '["ping",' + " " * 246 + "1]\n",
    ],
)
async def test_a_ping_may_be_written_in_other_ways(halves, frame):
    async with speaking(halves, max_message_size(10)(echo)) as client:
        client.says(frame)
        await client.has(["pong", 1])


async def never_reads(websocket: WebSocket) -> None:
    await websocket.accept()
    await asyncio.Event().wait()


async def works(websocket: WebSocket) -> None:
    await websocket.receive()
    await asyncio.Event().wait()


async def waits(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.wait_closed()


@both_halves
@pytest.mark.parametrize("handler", [never_reads, works, waits])
async def test_a_ping_is_answered_whatever_the_handler_does(halves, handler, monkeypatch, caplog):
    hurry(monkeypatch, BUSY_GRACE=0.0)
    async with speaking(halves, handler) as client:
        await until(lambda: client.messages)
        if handler is works:
            client.says("\nwork")
        for number in (1, 2):
            client.says(f'["ping",{number}]\n')
            await client.has(["pong", number])
    assert "Discarding" not in caplog.text


async def test_a_ping_is_answered_behind_what_was_sent_before():
    async def handler(websocket):
        async for message in websocket:
            for _ in range(3):
                await websocket.send(message)

    async with speaking("events", handler) as client:
        client.says("\na", '["ping",1]\n', "\nb")
        await client.sees(*"aaabbb")
        assert client.heads == [None, None, None, ["pong", 1], None, None, None]


@both_halves
async def test_a_ping_is_a_sign_of_life(halves, monkeypatch):
    async with speaking(halves, echo, WEBSOCKET_IDLE_TIMEOUT=600) as client:
        await until(lambda: client.messages)
        meter = only_socket().connection.reader.meter
        meter.heard = 0.0
        client.says('["ping",1]\n')
        await client.has(["pong", 1])
        assert meter.heard > 0.0


@both_halves
async def test_pings_at_the_pace_that_was_asked_for_are_no_messages(halves, monkeypatch):
    monkeypatch.setattr(envelope, "LEAST_PING", 0.0)
    async with speaking(halves, rate_limit("1/h")(echo)) as client:
        for number in range(5):
            client.says(f'["ping",{number}]\n')
        client.says("\none")
        await client.sees("one")
        assert client.heads == [*(["pong", number] for number in range(5)), None]
        client.says('["ping",5]\n', "\ntwo")
        assert await client.closed() == 4429


@both_halves
async def test_more_pings_are_messages_for_the_rate_limit(halves, monkeypatch, caplog):
    monkeypatch.setattr(envelope, "LEAST_PING", 600.0)
    async with speaking(halves, rate_limit("2/h")(echo)) as client:
        client.says('["ping",1]\n', '["ping",2]\n', "\none")
        await client.sees("one")
        client.says('["ping",3]\n', "\ntwo")
        assert await client.closed() == 4429
        assert client.heads == [["pong", 1], ["pong", 2], None]
    ((_, line),) = lines(caplog)
    assert "with 4429: too many messages" in line


async def test_pings_are_as_many_as_they_like_without_a_limit(monkeypatch):
    monkeypatch.setattr(envelope, "LEAST_PING", 600.0)
    async with speaking("events", echo) as client:
        client.says(*[f'["ping",{number}]\n' for number in range(100)])
        await client.has(["pong", 99])


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
async def test_a_ping_that_is_found_when_the_client_is_gone_hides_no_close_code(server):
    codes = []

    async def handler(websocket):
        await websocket.receive()
        await go.wait()
        try:
            while True:
                await websocket.send("x")
        except WebSocketDisconnect as exc:
            codes.append(exc.code)

    go = asyncio.Event()
    async with serving(handler, server=server, scope={"subprotocols": offer()}) as fake:
        fake.message("\nwork")
        await until(lambda: not fake.unread)
        fake.error = OSError()
        fake.message('["ping",1]\n')
        fake.leave(4001)
        go.set()
        await fake.ended()
    assert codes == [4001]


# Limits


@both_halves
async def test_the_limit_on_a_message_is_on_its_payload(halves):
    async with speaking(halves, max_message_size(10)(echo)) as client:
        client.says("\n" + "x" * 10, b"\n" + b"x" * 10, "\n" + "\u00e9" * 5)
        await client.sees("x" * 10, b"x" * 10, "\u00e9" * 5)
        client.says("\n" + "x" * 11)
        assert await client.closed() == 1009


@both_halves
@pytest.mark.parametrize("payload", ["\u00e9" * 6, b"x" * 11, "x" * 268, b"x" * 100_000])
async def test_a_payload_over_the_limit_closes_with_1009(halves, payload, caplog):
    async with speaking(halves, max_message_size(10)(echo)) as client:
        client.says("\n" + payload if isinstance(payload, str) else b"\n" + payload)
        assert await client.closed() == 1009
    await until(lambda: "WEBSOCKET_MAX_MESSAGE_SIZE or @max_message_size (10)" in caplog.text)


@both_halves
async def test_who_chose_another_subprotocol_has_the_limit_on_the_whole_message(halves):
    declared = subprotocols("chat")(max_message_size(10)(echo))
    async with speaking(halves, declared, others=["chat"]) as client:
        client.says("\n" + "x" * 9)
        await until(lambda: client.messages == ["\n" + "x" * 9])
        client.says("\n" + "x" * 10)
        assert await client.closed() == 1009


@both_halves
async def test_messages_are_counted_for_the_rate_limit(halves):
    async with speaking(halves, rate_limit("2/h")(echo)) as client:
        client.says("\n1", "\n2", "\n3")
        assert await client.closed() == 4429
        assert client.payloads == ["1", "2"]


async def test_a_full_inbox_counts_payloads(monkeypatch):
    hurry(monkeypatch)
    go = asyncio.Event()
    got = []

    async def handler(websocket):
        got.append(await websocket.receive())
        await go.wait()
        async for message in websocket:
            got.append(message)

    async with speaking("events", handler) as client:
        client.says(*[f"\n{number}" for number in range(20)])
        await until(lambda: len(only_socket().connection.reader.inbox or ()) > 5)
        go.set()
        await until(lambda: len(got) == 20)
    assert got == [str(number) for number in range(20)]


@both_halves
async def test_a_read_that_is_cancelled_loses_no_message(halves):
    got = []

    async def handler(websocket):
        await websocket.accept()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await websocket.receive()
        ready.set()
        async for message in websocket:
            got.append(message)

    ready = asyncio.Event()
    async with speaking(halves, handler) as client:
        await ready.wait()
        client.says("\none", '["ping",1]\n', "\ntwo")
        await until(lambda: len(got) == 2)
    assert got == ["one", "two"]


async def test_a_head_that_is_no_unicode_is_none_as_well():
    async with serving(echo, scope={"subprotocols": offer()}) as server:
        server.message('["ping","\ud800"]\n')
        await until(lambda: server.closed)
        assert server.closed[0] == 4400
