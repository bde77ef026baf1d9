"""Every end of a handler, in both forms: what the client sees is deliberate."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from time import monotonic

import pytest
from websockets.exceptions import ConnectionClosed

from django_ws_dispatch.codes import cut_reason

from .expectations import Expected
from .processes import AnyServer
from .sockets import FAREWELL
from .wire import End, end_of

pytestmark = [pytest.mark.live, pytest.mark.servers, pytest.mark.asyncio]

FORMS = ["ends", "raw-ends"]
BEFORE = {
    "return": 403,
    "404": 404,
    "403": 403,
    "400": 400,
    "429": 429,
    "deny": 418,
    "failure": 500,
    "oserror": 500,
    "broker": 503,
    "group": 404,
}
AFTER = {
    "return": 1000,
    "404": 4404,
    "403": 4403,
    "400": 4400,
    "429": 4429,
    "deny": 4418,
    "failure": 1011,
    "oserror": 1011,
    "broker": 1011,
    "group": 4404,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", BEFORE)
async def test_an_end_before_the_accept_denies(server, expected, form, how):
    end = await end_of(server.port, f"/{form}/early-{how}/")
    assert (end.status, end.code) == (expected.status(BEFORE[how]), None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", AFTER)
async def test_an_end_after_the_accept_closes(server, expected, form, how):
    end = await end_of(server.port, f"/{form}/open-{how}/")
    assert (end.status, end.code) == (101, expected.code(AFTER[how]))


@pytest.mark.parametrize("how", AFTER)
async def test_an_end_in_the_middle_of_a_conversation_closes(server, expected, how):
    async with server.connect(f"/late/{how}/") as socket:
        await socket.send("go")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == expected.code(AFTER[how])


@pytest.mark.parametrize("form", ["closes", "raw-closes"])
@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
async def test_a_close_code_and_its_reason_arrive(server, expected, form, code):
    end = await end_of(server.port, f"/{form}/{code}/")
    assert end.code == expected.code(code)
    assert end.reason == (cut_reason(FAREWELL) if expected.reason_sent else "")


@pytest.mark.parametrize("form", ["closes", "raw-closes"])
@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2999, 5000])
async def test_a_close_code_that_may_not_be_sent_is_a_failure_of_the_handler(
    server, expected, form, code
):
    assert (await end_of(server.port, f"/{form}/{code}/")).code == expected.code(1011)


@pytest.mark.parametrize("form", ["close-early", "raw-close-early"])
async def test_a_close_before_the_accept_is_a_403(server, form):
    assert (await end_of(server.port, f"/{form}/")).status == 403


def assert_teapot(end: End, expected: Expected, cookies: list[str]) -> None:
    """Assert that it is the handler's denial, or where that can not be a bare one."""
    body, kinds = (b"a teapot", ["tea"]) if expected.denials else (b"", [])
    assert (end.status, end.body) == (expected.status(418), body)
    assert end.all("x-kind") == kinds
    assert end.all("set-cookie") == cookies[2 - expected.cookies :]


@pytest.mark.parametrize("form", FORMS)
async def test_a_denial_is_the_response_of_the_handler(server, expected, form):
    end = await end_of(server.port, f"/{form}/early-deny/")
    cookies = ["sugar=two; Path=/", "milk=none; HttpOnly; Path=/"]
    assert_teapot(end, expected, cookies)


async def test_a_denial_that_a_raw_handler_writes_arrives(server, expected):
    assert_teapot(await end_of(server.port, "/raw-deny/"), expected, ["a=1", "b=2"])


async def test_an_unknown_path_a_wrong_host_and_a_wrong_origin_are_denied(server, expected):
    async def status(path: str, **headers: str) -> int:
        return (await end_of(server.port, path, headers)).status

    assert await status("/nowhere/") == expected.status(404)
    assert await status("/reads/", Host="evil.example") == expected.status(400)
    assert await status("/reads/", Origin="https://evil.example") == 403


async def test_a_kick_from_elsewhere_closes_and_is_told(server, expected):
    seen = len(server.notes)
    async with server.connect("/target/") as socket:
        assert await socket.recv() == "joined"
        assert (await end_of(server.port, "/remover/")).status == 403
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == expected.code(4403)
    assert caught.value.rcvd.reason == ("removed" if expected.reason_sent else "")
    await asyncio.to_thread(server.wait_for_notes, "target 4403 removed")
    assert server.notes[seen:] == ["target 4403 removed"]


async def many_ends(server: AnyServer, path: str, count: int) -> Counter[object]:
    """Connect so many times, a few at once, and count the ends."""
    ends: Counter[object] = Counter()
    late = 0

    async def some(number: int) -> None:
        nonlocal late
        while number:
            began = monotonic()
            end = await end_of(server.port, path)
            # Who does not answer a close frame for a second, on a busy machine, is cut off by
            # daphne, and what it has not read by then is lost: that says nothing of the end.
            was_cut_off = not end.status or end.code == 1006
            if was_cut_off and monotonic() - began >= 1 and late < count:
                late += 1
                continue
            number -= 1
            ends[end.code if end.status == 101 else end.status] += 1

    await asyncio.gather(*(some(count // 10) for _ in range(10)))
    return ends


def ends_to_see(name: str) -> int:
    """How many ends for each exit path."""
    whole = int(os.environ.get("WS_DISPATCH_ENDS", "100"))
    return whole if name == "uvicorn" else max(10, whole // 10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", AFTER)
async def test_no_end_is_a_1006(server, expected, form, how):
    count = ends_to_see(expected.name)
    ends = await many_ends(server, f"/{form}/open-{how}/", count)
    assert ends == {expected.code(AFTER[how]): count}


async def test_a_thousand_denials_leave_the_server_alive(start, expected):
    server = start()
    paths = ["/ends/early-deny/", "/raw-deny/", "/nowhere/", "/close-early/", "/ends/early-return/"]
    ends: Counter[object] = Counter()
    for path in paths:
        ends += await many_ends(server, path, 200)
    assert ends == ({418: 400, 404: 200, 403: 400} if expected.denials else {403: 1000})
    assert "exit" not in server.log.lower()
    assert (await end_of(server.port, "/ends/open-return/")).code == 1000
