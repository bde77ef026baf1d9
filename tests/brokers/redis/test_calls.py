"""Commands on a server that does not speak as Redis does."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import DataError

from django_ws_dispatch.exceptions import BrokerError
from tests.brokers.redis.babbler import GARBAGE, Babbler, make_broker
from tests.kit.waiting import until


@pytest.mark.parametrize(
    ("garbage", "politely"),
    # A text is what Redis itself says to a greeting.
    [(one, politely) for one in GARBAGE for politely in (True, False) if politely or one != "text"],
)
def test_garbage_is_a_broker_error_with_its_cause(
    garbage: str, politely: bool, server: Babbler
) -> None:
    server.answer, server.politely = GARBAGE[garbage], politely
    broker = make_broker(server, timeout=0.5)
    with pytest.raises(BrokerError, match="did not take a message") as caught:
        broker.publish("a", b"x")
    assert caught.value.__cause__ is not None

    async def main() -> None:
        with pytest.raises(BrokerError, match="did not take a message") as caught:
            await broker.apublish("a", b"x")
        assert caught.value.__cause__ is not None
        await broker.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("garbage", ["no number", "nil"])
def test_a_connection_that_brought_garbage_is_not_used_again(garbage: str, server: Babbler) -> None:
    broker = make_broker(server)

    async def main() -> None:
        for publish in (broker.apublish, lambda *args: asyncio.to_thread(broker.publish, *args)):
            server.answer = None
            await publish("a", b"x")
            before = server.connections
            server.answer = GARBAGE[garbage]
            with pytest.raises(BrokerError):
                await publish("a", b"x")
            assert server.connections == before + 1  # one retry on a fresh connection
            server.answer = None
            await publish("a", b"x")
            assert server.connections == before + 2
        await broker.aclose()

    asyncio.run(main())
    broker.close()


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_where_one_connection_turns_out_to_be_broken_the_idle_ones_are_not_tried(
    how: str, server: Babbler
) -> None:
    broker = make_broker(server)

    async def main() -> None:
        async def publish() -> None:
            if how == "tasks":
                await broker.apublish("a", b"x")
            else:
                await asyncio.to_thread(broker.publish, "a", b"x")

        server.answer = b""  # so that each of them needs a connection of its own
        sending = [asyncio.create_task(publish()) for _ in range(3)]
        await until(lambda: server.asked.count(b"PUBLISH") == 3)
        server.answer_all(b":1\r\n")
        await asyncio.gather(*sending)
        server.answer = None
        server.hang_up()
        for _ in range(3):
            await publish()
        assert server.connections == 4  # one fresh one, for all that were old
        await broker.aclose()

    asyncio.run(main())
    broker.close()


def test_what_can_not_be_sent_is_the_mistake_of_the_caller(server: Babbler) -> None:
    broker = make_broker(server)
    message: bytes = None  # type: ignore[assignment]
    with pytest.raises(DataError):
        broker.publish("a", message)

    async def main() -> None:
        with pytest.raises(DataError):
            await broker.apublish("a", message)
        await broker.aclose()

    asyncio.run(main())


def test_a_sender_that_is_cancelled_is_cancelled(server: Babbler) -> None:
    server.answer = b""

    async def main() -> None:
        broker = make_broker(server)
        sending = asyncio.create_task(broker.apublish("a", b"x"))
        await until(lambda: server.connections)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await broker.aclose()

    asyncio.run(main())


def test_a_sentinel_that_speaks_garbage_is_passed_over(server: Babbler) -> None:
    server.answer = b":7\r\n"
    broker = make_broker(server, sentinel="chats")
    with pytest.raises(BrokerError, match="No primary found"):
        broker.publish("a", b"x")

    async def main() -> None:
        with pytest.raises(BrokerError, match="No primary found"):
            await broker.apublish("a", b"x")

    asyncio.run(main())
