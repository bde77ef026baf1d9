"""Who is here by what a Redis server knows.

Of each channel, with its name in a hash tag: ``...:ph`` key -> since when it is here (sorted set),
``:pn`` key -> sockets, ``:pi`` key -> info (hashes), ``:pl`` key -> when it lingers no more (sorted
set), ``:pp`` tracker -> when it has to have said something (sorted set), ``:pe:<tracker>`` key ->
sockets of that one (hash), ``:pv`` the version, ``:pg`` is there while no tracker is taken for
gone. Times are milliseconds by the server's clock, those of ``:ph`` microseconds. All of it expires
with who refreshes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import InvalidResponse

from ..presence import (
    EXPIRY,
    GRACE,
    PRESENCE,
    REFRESH,
    SWEPT,
    Changes,
    Entry,
    Here,
    Listed,
    Roll,
    Tracked,
    changes_of,
)
from .calls import Call, Script
from .history import Steps

__all__ = ["Presence"]

# Milliseconds that the keys outlive whoever refreshes them: a sweep may take its time.
KEPT = 3_600_000
# Keys that a server lists at once: it is held for no longer than 2 ms, also where each has an info
# of 1 KiB.
PAGE = 200

# KEYS: ph pn pi pl pp pv pg. Who is here, up to a limit, a page behind some time; nothing is swept.
# Returns version, total, behind what the next page is, and columns.
_LIST = """
local time = redis.call('TIME')
local us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(us / 1000)
local grace = redis.call('EXISTS', KEYS[7]) == 1
local function list(version, most, page, behind, above)
  local last, count, keys, since = ''
  if not grace and redis.call('ZCOUNT', KEYS[5], '(' .. now, '+inf') == 0 then
    -- Nobody has said anything for long: only who lingers is here.
    count = redis.call('ZCOUNT', KEYS[4], '(' .. now, '+inf')
    keys = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. now, '+inf', 'LIMIT', 0, page)
    since = {}
    for at, key in ipairs(keys) do
      since[at] = redis.call('ZSCORE', KEYS[1], key) or us
    end
  else
    local due, over = {}, 0
    if not grace then
      for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 1000)) do
        due[key] = true
      end
      over = redis.call('ZCOUNT', KEYS[4], '-inf', now)
    end
    count, keys, since = redis.call('ZCARD', KEYS[1]) - over, {}, {}
    local rows = {}
    if most > 0 and (above or count <= most) then
      rows = redis.call('ZRANGEBYSCORE', KEYS[1], behind, '+inf', 'WITHSCORES', 'LIMIT', 0, page)
    end
    if #rows > 0 and #rows == 2 * page then last = '(' .. rows[#rows] end
    for at = 1, #rows, 2 do
      if not due[rows[at]] then
        keys[#keys + 1], since[#since + 1] = rows[at], rows[at + 1]
      end
    end
  end
  if #keys == 0 then return {version, count, last} end
  local sockets = redis.call('HMGET', KEYS[2], unpack(keys))
  local infos = redis.call('HMGET', KEYS[3], unpack(keys))
  for at = 1, #keys do
    sockets[at], infos[at] = sockets[at] or '0', infos[at] or 'null'
  end
  -- One string is read faster than a thousand. JSON on one line has no line feed.
  return {version, count, last, cjson.encode(keys), table.concat(since, ' '),
    table.concat(sockets, ' '), table.concat(infos, string.char(10))}
end
"""

# ARGV: how many are listed, and on a page, and behind what.
SNAPSHOT = Script(
    _LIST
    + """
local version = redis.call('GET', KEYS[6]) or '0.0'
return list(version, tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], true)
"""
)

# KEYS: those, pe of the tracker, and of the one that it replaces. ARGV: see track(). The first
# write is SET: where the server refuses it for want of memory nothing was done. A version has the
# time in it, so that it never comes again where the server went back to an older state.
TRACK = Script(
    _LIST
    + """
local tracker, linger, most = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local swept = tonumber(ARGV[12])
local epoch, number
local version = redis.call('GET', KEYS[6])
if version then epoch, number = string.match(version, '^(%d+)%.(%d+)$') end
if not epoch then epoch, number = string.format('%.0f', us), '0' end
version = epoch .. '.' .. number
local before = version
redis.call('SET', KEYS[6], version, 'PX', ARGV[10])
local score = redis.call('ZSCORE', KEYS[5], tracker)
-- Where others were heard meanwhile the broker was away for this one only.
if (ARGV[8] == '1' or (score and tonumber(score) <= now))
  and redis.call('ZCOUNT', KEYS[5], '(' .. (now + tonumber(ARGV[15])), '+inf') == 0 then
  grace = true
  redis.call('SET', KEYS[7], '1', 'PX', ARGV[7])
end
local left, changed = {}, {}
local function remove(key)
  redis.call('ZREM', KEYS[1], key)
  redis.call('HDEL', KEYS[2], key)
  redis.call('HDEL', KEYS[3], key)
  redis.call('ZREM', KEYS[4], key)
  changed[key] = nil
  left[#left + 1] = key
end
for at = 17, #ARGV, 5 do
  local key, sockets = ARGV[at], tonumber(ARGV[at + 1])
  local taken = ARGV[13] ~= '' and redis.call('HGET', KEYS[9], key)
  if taken then
    redis.call('HINCRBY', KEYS[8], key, taken)
    redis.call('HDEL', KEYS[9], key)
  end
  local had = tonumber(redis.call('HGET', KEYS[8], key) or '0')
  local total = tonumber(redis.call('HGET', KEYS[2], key) or '0')
  local rest = total + sockets - had
  if sockets ~= had then
    if sockets > 0 then
      redis.call('HSET', KEYS[8], key, sockets)
    else
      redis.call('HDEL', KEYS[8], key)
    end
    if rest > 0 then
      redis.call('HSET', KEYS[2], key, rest)
      changed[key] = true
    else
      redis.call('HDEL', KEYS[2], key)
    end
  end
  if rest > 0 then
    if redis.call('ZADD', KEYS[1], 'NX', us + at, key) == 1 then
      changed[key] = true
    elseif total <= 0 then
      redis.call('ZREM', KEYS[4], key)
    end
    local info, old = ARGV[at + 3], ARGV[at + 4]
    if info ~= '' then
      local has = redis.call('HGET', KEYS[3], key)
      if has ~= info and (old == '' or old == has) then
        redis.call('HSET', KEYS[3], key, info)
        changed[key] = true
      end
    end
  elseif had > 0 then
    if ARGV[at + 2] == '1' and linger > 0 then
      redis.call('ZADD', KEYS[4], now + linger, key)
      changed[key] = true
    else
      remove(key)
    end
  end
end
if ARGV[4] ~= '0' then
  redis.call('ZADD', KEYS[5], now + tonumber(ARGV[4]), tracker)
elseif redis.call('EXISTS', KEYS[8]) == 0 then
  redis.call('ZREM', KEYS[5], tracker)
end
if ARGV[14] == '1' then redis.call('ZADD', KEYS[5], 'XX', 0, ARGV[13]) end
local more, expired, room = 0, now, swept
if grace then expired = 0 end
local dead = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', expired, 'LIMIT', 0, 1)[1]
if dead then
  local theirs = ARGV[11] .. dead
  local found = redis.call('HRANDFIELD', theirs, swept, 'WITHVALUES')
  room = swept - #found / 2
  for at = 1, #found, 2 do
    local key = found[at]
    redis.call('HDEL', theirs, key)
    if redis.call('HINCRBY', KEYS[2], key, '-' .. found[at + 1]) > 0 then
      changed[key] = true
    else
      remove(key)
    end
  end
  if #found < 2 * swept then redis.call('ZREM', KEYS[5], dead) end
  if redis.call('ZCOUNT', KEYS[5], '-inf', expired) > 0 then more = 1 end
end
if not grace then
  local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, room)
  if #due == room then more = 1 end
  for _, key in ipairs(due) do remove(key) end
end
local message = ''
if #left > 0 or next(changed) then
  version = epoch .. '.' .. string.format('%.0f', math.max(us, tonumber(number) + 1))
  redis.call('SET', KEYS[6], version, 'PX', ARGV[10])
  local count = redis.call('ZCARD', KEYS[1])
  local event = {b = before, v = version, n = tostring(count)}
  if count > most then
    event.o = '1'
  else
    if #left > 0 then event.l = left end
    local here = {}
    for key in pairs(changed) do
      here[#here + 1] = {key, redis.call('HGET', KEYS[2], key) or '0',
        redis.call('ZSCORE', KEYS[1], key), redis.call('HGET', KEYS[3], key) or 'null'}
    end
    if #here > 0 then event.j = here end
  end
  message = cjson.encode(event)
  redis.call('PUBLISH', ARGV[1], ARGV[2] .. message)
end
for at = 1, 8 do
  if at < 6 or at > 7 then redis.call('PEXPIRE', KEYS[at], ARGV[10]) end
end
local answer = {score and 1 or 0, more, redis.call('HLEN', KEYS[8]), message}
if ARGV[9] == '1' then answer[5] = list(version, most, tonumber(ARGV[16]), '-inf', false) end
return answer
"""
)


class Presence:
    """The keys, the arguments and the answers; makes no call itself.

    Args:
        key: says what the keys of a channel begin with, up to its hash tag and a colon.
        name: says under which name a channel is published.
    """

    def __init__(self, key: Callable[[str], bytes], name: Callable[[str], bytes]) -> None:
        self._key = key
        self._name = name

    def _keys(self, channel: str) -> list[bytes]:
        start = self._key(channel)
        return [start + one for one in (b"ph", b"pn", b"pi", b"pl", b"pp", b"pv", b"pg")]

    def track(
        self,
        channel: str,
        tracker: str,
        entries: Sequence[Entry],
        listed: Listed,
        roll: bool,
        away: bool,
        ends: bool,
        replaces: str,
        replaced: bool,
    ) -> Steps[Tracked]:
        theirs = self._key(channel) + b"pe:"
        command = (
            TRACK,
            9,
            *self._keys(channel),
            theirs + tracker.encode(),
            theirs + replaces.encode(),
            self._name(channel),
            PRESENCE,
            tracker,
            0 if ends else _ms(EXPIRY),  # of the tracker
            _ms(listed.linger),
            listed.most,
            _ms(GRACE),
            int(away),
            int(roll),
            KEPT + _ms(listed.linger),
            theirs,
            SWEPT,
            replaces,
            int(replaced),
            _ms(EXPIRY - REFRESH),  # whose time is later was heard within REFRESH
            min(PAGE, listed.most),
            *(
                argument
                for one in entries
                for argument in (one.key, one.sockets, int(one.lingers), one.info, one.instead_of)
            ),
        )
        # Once or twice is the same: it says how many there are.
        found: Tracked
        page: _Page | None
        found, page = yield Call([command], _tracked, purpose="take who is here")
        if page is None or page.roll.total > listed.most:
            return found._replace(roll=page and page.roll)
        return found._replace(roll=(yield from self._rest(channel, listed.most, page)))

    def snapshot(self, channel: str, most: int) -> Steps[Roll]:
        first = yield self._page(channel, most, b"-inf")
        return (yield from self._rest(channel, most, first))

    def _page(self, channel: str, most: int, behind: bytes) -> Call:
        command = (SNAPSHOT, 7, *self._keys(channel), most, min(PAGE, most), behind)
        return Call([command], lambda answers: _page(answers[0]))

    def _rest(self, channel: str, most: int, page: _Page) -> Steps[Roll]:
        # The version is that of the first page: what changes meanwhile is heard, and taken later.
        roll, here = page.roll, {one.key: one for one in page.roll.here}
        while page.behind and len(here) < most:
            page = yield self._page(channel, most, page.behind)
            for one in page.roll.here:
                here.pop(one.key, None)  # it has come again meanwhile
                here[one.key] = one
        return roll._replace(here=[*here.values()][:most])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class _Page(NamedTuple):
    roll: Roll
    behind: bytes  # what the next page is; empty: there is none


def _tracked(answers: list[Any]) -> tuple[Tracked, _Page | None]:
    known, more, keys, message, *rest = answers[0]
    changes: Changes | None = changes_of(message) if message else None
    return Tracked(bool(known), bool(more), keys, changes, None), _page(rest[0]) if rest else None


def _page(answer: Any) -> _Page:
    if not isinstance(answer, list) or len(answer) not in (3, 7):
        raise InvalidResponse("the answer is no list of who is here")
    version, total, behind, *columns = answer
    here = []
    if columns:
        keys, since, sockets, infos = columns
        names, lines = json.loads(keys), infos.decode().split("\n")
        rows = zip(names, sockets.split(), since.split(), lines, strict=True)
        here = [Here(key, int(n), int(float(us)), info) for key, n, us, info in rows]
        here.sort(key=lambda one: one.since)
    return _Page(Roll(version.decode(), total, here), behind)
