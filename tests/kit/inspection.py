"""What a server was asked for, and what it keeps: looked at before it ends.

What ``redis-cli MONITOR`` would show, in the sum: the server counts each command, those of scripts
included, and a look costs a few milliseconds where a connection with MONITOR costs each command.
"""

from __future__ import annotations

import redis

__all__ = ["inspect"]

WALKS = {"keys", "scan", "sscan", "hscan", "zscan", "randomkey"}
WAITS = {"xread", "xreadgroup", "wait", "waitaof"} | {
    f"b{name}"
    for name in ("lpop", "rpop", "rpoplpush", "lmove", "lmpop", "zpopmin", "zpopmax", "zmpop")
}
# A server that does not answer is not looked at: that may be the test's point.
PATIENCE = 2.0


def inspect(url: str) -> list[str]:
    """Return what this package never does and has done: walked, waited, kept a key for ever."""
    found = []
    try:
        with redis.Redis.from_url(
            url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
        ) as client:
            called = {
                name.removeprefix("cmdstat_").partition("|")[0]
                for name in client.info("commandstats")
            }
            if wrong := called & (WALKS | WAITS):
                found.append(f"it was asked for {', '.join(sorted(wrong))}")
            for names in _pages(client):
                pipeline = client.pipeline(transaction=False)
                for name in names:
                    pipeline.pttl(name)
                times = pipeline.execute()
                for_ever = [name for name, ms in zip(names, times, strict=True) if ms == -1]
                if for_ever:
                    found.append(f"{for_ever[:5]} have no expiry")
    except (redis.RedisError, OSError):
        pass
    return found


def _pages(client: redis.Redis) -> list[list[bytes]]:
    found, cursor = [], 0
    while True:
        cursor, names = client.scan(cursor, count=1_000)
        if names:
            found.append(names)
        if not cursor:
            return found
