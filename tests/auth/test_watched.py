"""By what a logout, or a change of a user, finds a socket."""

from __future__ import annotations

from typing import Any

import pytest

from django_ws_dispatch.auth.watched import NOBODY, Watched, key_of


class Whom:
    """A user with some primary key."""

    def __init__(self, pk: Any) -> None:
        self.pk = pk


@pytest.mark.parametrize(("pk", "text"), [(7, "7"), ("7", "7"), (0, "0"), (None, None)])
def test_the_key_of_a_user_is_text_whatever_its_type(pk: Any, text: str | None) -> None:
    assert key_of(Whom(pk)) == text


def test_what_is_no_user_has_no_key() -> None:
    assert key_of(None) is None
    assert key_of(object()) is None


@pytest.mark.parametrize(
    ("user", "in_session", "users"),
    [
        (None, None, set()),
        ("1", None, {"1"}),
        (None, "2", {"2"}),
        ("1", "2", {"1", "2"}),
        ("1", "1", {"1"}),
    ],
)
def test_a_socket_is_found_by_its_user_and_by_the_one_of_its_session(
    user: str | None, in_session: str | None, users: set[str]
) -> None:
    assert Watched(user=user, in_session=in_session).users == users


def test_nobody_is_found_by_nothing() -> None:
    assert NOBODY.users == set()
    assert NOBODY.sessions == ()
    assert NOBODY.key is None


def test_a_key_is_settled_once_somebody_was_found_to_be_in_by_it() -> None:
    new = Watched(key="new", sessions=("token",), user="1", key_since=1000.0)
    settled = new.settled("new")
    assert settled.key_since == NOBODY.key_since
    assert settled == Watched(key="new", sessions=("token",), user="1")


def test_a_look_at_an_earlier_key_settles_nothing() -> None:
    new = Watched(key="new", key_since=1000.0)
    assert new.settled("old") is new


def test_a_traceback_does_not_show_the_key_of_a_session() -> None:
    watched = Watched(key="the-key-itself", sessions=("its-token",), user="1")
    assert "1" in repr(watched)
    assert "the-key" not in f"{watched!r} {watched}"
