"""How changes of who is here travel, and how versions are ordered."""

from __future__ import annotations

import json

import pytest

from django_ws_dispatch.brokers.presence import (
    BATCH,
    EXPIRY,
    GRACE,
    PRESENCE,
    REFRESH,
    Changes,
    Here,
    changes_of,
    published,
    version_of,
)


@pytest.mark.parametrize(
    "changes",
    [
        Changes("1.0", "1.1", 1, [], [Here("ann", 1, 1_700_000_000_000_001, "null")]),
        Changes("1.1", "1.2", 0, ["ann", 'q"\x00\n\u2028', "\U0001f600"], []),
        Changes("1.2", "1.3", 2, ["ann"], [Here("bob", 0, 5, '{"a": "\\u0000 \u00fc"}')]),
        Changes("9.9", "9.10", 100_000, [], None),
    ],
)
def test_what_is_published_comes_out_as_it_was(changes: Changes) -> None:
    message = published(changes)
    assert message.startswith(PRESENCE)
    assert changes_of(message[len(PRESENCE) :]) == changes


def test_above_the_limit_neither_list_travels() -> None:
    payload = published(Changes("1.0", "1.1", 500, [], None))[len(PRESENCE) :]
    assert json.loads(payload) == {"b": "1.0", "v": "1.1", "n": "500", "o": "1"}


def test_a_script_may_leave_out_what_is_empty_and_write_large_numbers_as_it_can() -> None:
    payload = b'{"b":"1.0","v":"1.1","n":"1","j":[["ann","1","1.7000000000001e+15","null"]]}'
    here = [Here("ann", 1, 1_700_000_000_000_100, "null")]
    assert changes_of(payload) == Changes("1.0", "1.1", 1, [], here)
    payload = b'{"b":"1.0","v":"1.1","n":"0","l":{},"j":{}}'  # what Lua makes of empty lists
    assert changes_of(payload) == Changes("1.0", "1.1", 0, [], [])


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"x", b"\xff", b"null", b"1", b"[]", b"{}", b'""'),
        *(b'{"b":"1.0","v":"1.1"}', b'{"b":"1.0","v":"1.1","n":null}'),
        *(b'{"b":"1.0","v":"x","n":"1"}', b'{"b":"","v":"1.1","n":"1"}'),
        *(b'{"b":"1.0","v":"1.1","n":"x"}', b'{"b":"1.0","v":"1.1","n":"1","j":[["ann"]]}'),
        *(b'{"b":"1.0","v":"1.1","n":"1","j":1}', b'{"b":"1.0","v":"1.1","n":"1","l":1}'),
        b'{"b":"1.0","v":"1.1","n":"1","j":[["ann","1","nan","null"]]}',
    ],
)
def test_garbage_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        changes_of(payload)


def test_versions_are_ordered_as_numbers() -> None:
    assert sorted(["10.1", "9.10", "9.9", "10.0"], key=version_of) == [
        "9.9",
        "9.10",
        "10.0",
        "10.1",
    ]


@pytest.mark.parametrize("version", ["", ".", "1", "1.", ".1", "x.1", "1.x", "1.2.3"])
def test_what_is_no_version_is_a_value_error(version: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        version_of(version)


def test_a_crash_is_told_within_a_minute_and_nobody_is_gone_who_is_late_once() -> None:
    assert 2 * REFRESH < EXPIRY < EXPIRY + REFRESH < 60
    assert REFRESH < GRACE
    assert BATCH > 1
