from __future__ import annotations

import pytest
import redis

from tests.kit.valkey import Valkey

pytestmark = pytest.mark.live


def use(valkey: Valkey, *command: str) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command(*command)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["SET", "a", "b"], r"\[b'a'\] have no expiry"),
        (["KEYS", "*"], "it was asked for keys"),
        (["EVAL", "return redis.call('SCAN', '0')[1]", "0"], "it was asked for scan"),
        (["BLPOP", "a", "0.01"], "it was asked for blpop"),
        (["XREAD", "BLOCK", "1", "STREAMS", "a", "$"], "it was asked for xread"),
    ],
)
def test_what_the_package_never_does_fails_the_test_whose_server_saw_it(
    command: list[str], told: str
) -> None:
    with pytest.raises(AssertionError, match=told), Valkey() as valkey:
        use(valkey, *command)


def test_what_it_saw_before_it_was_killed_counts() -> None:
    def kill(valkey: Valkey) -> None:
        with valkey:
            use(valkey, "KEYS", "*")
            valkey.restart()

    with pytest.raises(AssertionError, match="it was asked for keys"):
        kill(Valkey())


def test_a_server_that_nobody_looks_at_may_do_anything() -> None:
    with Valkey(inspected=False) as valkey:
        use(valkey, "SET", "a", "b")


def test_a_server_that_stands_still_is_not_waited_for() -> None:
    with Valkey() as valkey:
        use(valkey, "SET", "a", "b")
        valkey.freeze()
