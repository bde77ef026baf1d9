"""Positions, and how an entry travels."""

from __future__ import annotations

import pytest

from django_ws_dispatch.brokers.history import KEPT, Entry, kept, order_of, unkept


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "1", "1.2", "1.2-", "1.-3", ".2-3", "01.2-3", "1.2-03", "1.2-3 ", "-1.2-3"),
        *("1.2-3-4", "\u0661.2-3", "1.2-\u00b2", "\ud800", "9" * 21 + ".1-1", "1" * 70),
    ],
)
def test_garbage_is_no_position(text: str) -> None:
    assert order_of(text) is None


def test_positions_have_an_order() -> None:
    assert order_of("12.0-0") == (12, 0, 0)
    assert sorted(["10.1-1", "9.5-5", "10.1-0"], key=order_of) == ["9.5-5", "10.1-0", "10.1-1"]


def test_what_is_kept_comes_out_as_it_was() -> None:
    for message in (b"", b"\x00\xff" * 10, b"f\x00"):
        assert unkept(kept("1.0-0", "1.2-3", message)) == Entry("1.2-3", "1.0-0", message)


@pytest.mark.parametrize(
    "message", [KEPT, KEPT + b"\x05", KEPT + b"\x011", KEPT + b"\x051.0-0", KEPT + b"\x03\xff\xff1"]
)
def test_garbage_is_a_value_error(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"position|ascii"):
        unkept(message)
