"""Keys of sessions: what stands for them, and how a new one travels."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.test import override_settings

from django_ws_dispatch.auth import keys
from django_ws_dispatch.auth.keys import LoggedOut, Recent, seal, tokens_of, unseal
from django_ws_dispatch.auth.watched import Watched

OLD, NEW = "o" * 32, "n" * 32


def test_a_new_key_can_be_read_by_who_has_the_old_one_alone() -> None:
    (token,), (sealed,) = tokens_of(OLD), seal(NEW, OLD)
    assert NEW not in sealed
    assert bytes.fromhex(sealed) != NEW.encode()
    assert unseal(sealed, OLD, token) == NEW
    assert unseal(sealed, "x" * 32, token) is None
    assert unseal(sealed, "x" * 32, *tokens_of("x" * 32)) != NEW
    with override_settings(SECRET_KEY="another"):
        assert unseal(sealed, OLD, token) is None


@pytest.mark.parametrize("new", ["n", "n" * 31, "n" * 33, "n" * 100, "é" * 8])
def test_a_key_of_any_length_can_be_sealed(new: str) -> None:
    assert unseal(*seal(new, OLD), OLD, *tokens_of(OLD)) == new


@pytest.mark.parametrize("sealed", ["", "zz", "abc", "ff" * 32, "00" * 48, "é"])
def test_what_nobody_has_sealed_is_nothing(sealed: str) -> None:
    assert unseal(sealed, OLD, *tokens_of(OLD)) is None


def test_processes_with_the_old_and_with_the_new_secret_understand_each_other() -> None:
    with override_settings(SECRET_KEY="old"):
        (of_old,) = tokens_of(OLD)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        assert of_old in tokens_of(OLD)
        sealed = dict(zip(tokens_of(OLD), seal(NEW, OLD), strict=True))
        assert unseal(sealed[of_old], OLD, of_old) == NEW
    with override_settings(SECRET_KEY="old"):
        assert unseal(sealed[of_old], OLD, of_old) == NEW


def test_what_was_noted_is_forgotten_after_a_while_and_over_a_number(monkeypatch: Any) -> None:
    now = [1000.0]
    monkeypatch.setattr(keys, "monotonic", lambda: now[0])
    recent: Recent[int] = Recent(10, 3)
    for number in range(5):
        recent.note(str(number), number)
    assert [recent.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]
    now[0] += 11
    assert recent.get("4") is None
    recent.note("again", 1)
    assert len(recent) == 1


def test_nobody_without_the_old_key_can_make_or_change_what_is_sealed() -> None:
    (token,), (sealed,) = tokens_of(OLD), seal(NEW, OLD)
    data = bytes.fromhex(sealed)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert unseal(changed.hex(), OLD, token) is None
    assert unseal(sealed[:-2], OLD, token) is None
    assert unseal(sealed + "00", OLD, token) is None
    # A stream that is known for one key does not read or make another one.
    other = bytes.fromhex(*seal("m" * 32, OLD))
    stream = bytes(one ^ ord("m") for one in other[keys.TAG_BYTES :])
    assert bytes(map(int.__xor__, data[keys.TAG_BYTES :], stream)) != NEW.encode()


def test_a_key_that_is_watched_is_in_no_log() -> None:
    watched = Watched(key=OLD, user="1")
    assert OLD not in repr(watched) + str(watched) + f"{watched}"


def test_the_token_of_a_session_is_no_key_and_depends_on_the_secret():
    (token,) = tokens_of("a" * 32)
    assert "a" * 32 not in token
    assert [token] == tokens_of("a" * 32)
    assert [token] != tokens_of("b" * 32)
    with override_settings(SECRET_KEY="another"):
        assert [token] != tokens_of("a" * 32)


def test_a_logout_is_remembered_for_a_while_and_then_forgotten():
    logouts = LoggedOut()
    with mock.patch("django_ws_dispatch.auth.keys.monotonic", return_value=1000.0) as now:
        logouts.add("first", "")
        now.return_value += keys.LOGOUT_SECONDS - 1
        assert logouts.has("first", "")
        assert not logouts.has("second", "")
        logouts.add("second", "")
        now.return_value += 2
        assert not logouts.has("first", "")
        logouts.add("third", "")
        assert len(logouts) == 2


def test_a_logout_holds_in_its_namespace_and_where_none_is_known():
    logouts = LoggedOut()
    logouts.add("red's", "red")
    logouts.add("everybody's", "")
    namespaces = ("red", "blue", "", None)
    assert [logouts.has("red's", one) for one in namespaces] == [True, False, False, True]
    assert all(logouts.has("everybody's", one) for one in namespaces)
    logouts.add("red's", "blue")
    assert [logouts.has("red's", one) for one in namespaces] == [True, True, False, True]
