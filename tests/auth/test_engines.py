"""Session engines of others, which tell what becomes of their keys, and do all that they did."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.sessions.backends import db
from django.test import override_settings

from django_ws_dispatch.auth import engines, receivers, tell
from django_ws_dispatch.auth.keys import LoggedOut

numbers = itertools.count()


class Told:
    def __init__(self) -> None:
        self.changed: list[Any] = []
        self.ended: list[Any] = []
        self.unknown: list[Any] = []

    def engine(self, store: type[Any]) -> Any:
        """Have an engine tell, and return a session of it."""
        name = f"engine_of_a_test_{next(numbers)}"
        sys.modules[name] = module = ModuleType(name)
        module.SessionStore = store  # type: ignore[attr-defined]
        engines.tell_of_keys(name)
        return store()

    def move_session(self, before: str, after: str, namespace: str) -> None:
        self.changed.append((before, after))

    def end_session(self, keys: set[str], user: Any, namespace: str) -> None:
        self.ended.extend(keys)

    def verify_session(self, key: str, namespace: str) -> None:
        self.unknown.append(key)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    before = set(sys.modules)
    told = Told()
    monkeypatch.setattr(engines, "logged_out", LoggedOut())  # whom other tests have told of
    for name in ("move_session", "end_session", "verify_session"):
        monkeypatch.setattr(tell, name, getattr(told, name))
    yield told
    for name in set(sys.modules) - before:
        if name.startswith("engine_of_a_test_"):
            del sys.modules[name]


class Plain:
    """One that is derived from nothing, and knows nothing of coroutines."""

    session_key: str | None = "old"

    def cycle_key(self, reason: str = "") -> str:
        self.session_key = "new"
        return f"cycled {reason}"

    def delete(self) -> str:
        return "deleted"


def test_an_engine_that_is_not_derived_from_djangos_tells_and_returns_what_it_did(
    told: Told,
) -> None:
    session = told.engine(type("Store", (Plain,), dict(vars(Plain))))
    assert session.cycle_key(reason="login") == "cycled login"
    assert told.changed == [("old", "new")]
    assert session.delete() == "deleted"
    assert told.ended == ["new"]


def test_a_method_of_another_signature_is_called_as_it_was(told: Told) -> None:
    class Store(db.SessionStore):
        def delete(self, session_key: str | None = None, *, quietly: bool = False) -> Any:
            return session_key, quietly

    session = told.engine(Store)
    assert session.delete("k" * 32, quietly=True) == ("k" * 32, True)
    assert session.delete(session_key="k" * 32) == ("k" * 32, False)
    assert told.ended == ["k" * 32] * 2


@pytest.mark.asyncio
async def test_coroutine_functions_stay_what_they_are(told: Told) -> None:
    class Store(db.SessionStore):
        async def acycle_key(self) -> None:
            self._session_key = "n" * 32  # type: ignore[attr-defined]
            self._session_cache: dict[str, Any] = {engines.USER_KEY: "1"}

        async def adelete(self, session_key: str | None = None) -> None:
            pass

    session = told.engine(Store)
    session._session_key = "o" * 32
    await session.acycle_key()
    await session.adelete()
    assert told.changed == [("o" * 32, "n" * 32)]
    assert told.ended == ["n" * 32]


def test_what_a_method_raises_is_raised_and_nobody_knows_what_it_has_done(told: Told) -> None:
    class Store(Plain):
        def cycle_key(self, reason: str = "") -> str:
            raise OSError("no store")

        delete = cycle_key  # type: ignore[assignment]

    session = told.engine(Store)
    for method in (session.cycle_key, session.delete):
        with pytest.raises(OSError, match="no store"):
            method()
    assert (told.changed, told.ended) == ([], [])
    assert told.unknown == ["old", "old"]
    assert session._key_changes is False


def test_what_fails_for_a_session_that_has_no_key_is_told_to_nobody(told: Told) -> None:
    class Store(Plain):
        session_key = None

        def delete(self) -> str:
            raise OSError("no store")

    with pytest.raises(OSError, match="no store"):
        told.engine(Store).delete()
    assert told.unknown == []


def test_a_page_does_not_fail_where_nobody_can_be_told(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.changed = told.ended = None  # type: ignore[assignment]  # which raises an exception
    session = told.engine(type("Store", (Plain,), dict(vars(Plain))))
    session.cycle_key()
    session.delete()
    assert session.session_key == "new"
    assert caplog.text.count("can not be told") == 2


@pytest.mark.parametrize("found", [None, RuntimeError("no settings for it")])
def test_a_site_whose_engine_can_not_be_had_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: Any
) -> None:
    def import_module(name: str) -> Any:
        if found is not None:
            raise found
        return ModuleType(name)  # without a SessionStore

    monkeypatch.setattr(engines, "import_module", import_module)
    receivers.connect()
    assert "can not be told" in caplog.text


def test_an_engine_that_is_not_there_is_for_django_to_complain_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with override_settings(SESSION_ENGINE="nowhere.at.all"):
        pass
    assert caplog.text == ""
