"""Close codes, and what may go on a wire."""

from __future__ import annotations

from typing import Any

import pytest

from django_ws_dispatch import codes
from django_ws_dispatch.codes import CloseCode, check_close_code, cut_reason, invites_back
from django_ws_dispatch.websockets import websocket as websockets

SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
RESERVED = [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535, 65536]


@pytest.mark.parametrize("code", SENDABLE)
def test_a_code_of_the_registry_or_of_ones_own_may_be_sent(code: int) -> None:
    assert check_close_code(code) == code


@pytest.mark.parametrize("code", RESERVED)
def test_a_reserved_code_is_refused_with_those_that_may_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=rf"^{code} is not a close code .*1000-1003.*3000-4999"):
        check_close_code(code)


@pytest.mark.parametrize("code", ["1000", None, 1000.0, b"1000"])
def test_what_is_no_whole_number_is_no_code(code: Any) -> None:
    with pytest.raises(ValueError, match="is not a close code"):
        check_close_code(code)


@pytest.mark.parametrize("code", list(CloseCode))
def test_every_code_of_this_package_may_be_sent(code: CloseCode) -> None:
    checked = check_close_code(code)
    assert checked == code
    assert type(checked) is int


def test_the_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in CloseCode} == {
        "DONE": 1000,
        "WRONG_KIND": 1003,
        "NOT_JSON": 1007,
        "TOO_BIG": 1009,
        "FAILED": 1011,
        "RESTART": 1012,
        "SLOW_CLIENT": 1013,
        "BAD_REQUEST": 4400,
        "LOGGED_OUT": 4401,
        "FORBIDDEN": 4403,
        "GONE": 4404,
        "IDLE": 4408,
        "TOO_FAST": 4429,
    }


def test_handlers_find_the_codes_next_to_the_websocket() -> None:
    assert websockets.CloseCode is codes.CloseCode


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("", ""),
        ("done", "done"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 61, "é" * 61),
        ("é" * 62, "é" * 61),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 120 + "\U0001f600", "x" * 120),
        ("\U0001f600" * 31, "\U0001f600" * 30),
        ("a\ud800b", "a?b"),
    ],
)
def test_a_reason_is_cut_to_123_bytes_at_a_character(reason: str, cut: str) -> None:
    assert cut_reason(reason) == cut
    assert len(cut.encode()) <= 123


@pytest.mark.parametrize(
    "code",
    [1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015, 4408, 4429, 4500, 4599],
)
def test_a_client_comes_back_after_these_as_it_is(code: int) -> None:
    assert invites_back(code)


NOT_AS_IT_IS = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 1016, 3000, 4000, 4400, 4401, 4403, 4404]


@pytest.mark.parametrize("code", [*NOT_AS_IT_IS, 4407, 4409, 4428, 4430, 4499, 4600, 4999])
def test_a_client_does_not_come_back_after_these_as_it_is(code: int) -> None:
    assert not invites_back(code)
