"""What came from a client, as it stands in a log."""

from __future__ import annotations

import pytest

from django_ws_dispatch.reports import quoted, shown, shown_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ws/ping/", "/ws/ping/"),
        ("/ws/\r\nDenied /admin/", r"/ws/\r\nDenied /admin/"),
        ("/ws/\x1b[31m", r"/ws/\x1b[31m"),
        ("/ws/b\u00fccher/", r"/ws/b\xfccher/"),
        ("\udcff", r"\udcff"),
        ("", ""),
    ],
)
def test_it_is_one_line_of_ascii(text: str, expected: str) -> None:
    assert shown(text) == shown_path({"path": text}) == expected
    assert quoted(text) == f"'{expected}'"


@pytest.mark.parametrize("letter", ["a", "\n", "\u20ac", "\U0001f600"])
def test_it_is_never_long(letter: str) -> None:
    assert shown(letter * 5000).endswith("...")
    assert len(shown(letter * 5000)) == 203
    assert quoted(letter * 5000).endswith("'...")
    assert len(quoted(letter * 5000)) == 205


def test_what_just_fits_is_whole() -> None:
    assert shown("a" * 200) == "a" * 200
    assert quoted("a" * 200) == f"'{'a' * 200}'"
    assert shown("a" * 201) == "a" * 200 + "..."


def test_a_scope_may_have_no_path() -> None:
    assert shown_path({}) == ""
