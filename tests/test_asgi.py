"""How the tools of this package find the site's application, and the dispatcher in it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from django.core.asgi import get_asgi_application as django_application
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_ws_dispatch.asgi import get_asgi_application, leads_to_dispatcher, load_application

from . import asgi

django_app = django_application()


def test_the_application_is_the_one_that_the_setting_names():
    with override_settings(ASGI_APPLICATION="tests.test_asgi.django_app"):
        assert load_application() is django_app


def test_the_application_is_that_next_to_the_root_urls_without_the_setting():
    with override_settings(ASGI_APPLICATION=None, ROOT_URLCONF="tests.urls"):
        assert load_application() is asgi.application


@pytest.mark.parametrize(
    "value",
    ["no.such.application", "tests.no.application", "tests.asgi.other", "asgi", "", ".a", 5],
)
def test_an_application_that_is_not_there_is_a_wrong_setting(value: object) -> None:
    with (
        override_settings(ASGI_APPLICATION=value),
        pytest.raises(ImproperlyConfigured, match="ASGI_APPLICATION"),
    ):
        load_application()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_module", ModuleNotFoundError),
        ("from os import nothing", ImportError),
        ("1 / 0", ZeroDivisionError),
    ],
)
def test_what_fails_in_asgi_py_is_raised_as_it_is(
    code: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_asgi.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with (
        override_settings(ASGI_APPLICATION="failing_asgi.application"),
        pytest.raises(error) as raised,
    ):
        load_application()
    assert raised.type is error


class Around:
    def __init__(self, app: Any) -> None:
        self.inner = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Slotted:
    __slots__ = ("app", "empty")

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


def closure(app: Any) -> Any:
    async def around(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return around


@pytest.mark.parametrize(
    "wrap",
    [
        Around,
        Slotted,
        closure,
        lambda app: Slotted(app).method,
        lambda app: functools.wraps(app)(lambda scope, receive, send: None),
        lambda app: functools.partial(app),
        lambda app: Around({"http": None, "websocket": app}),
        lambda app: Around(closure(Slotted([app]))),
    ],
)
def test_a_dispatcher_is_found_behind_what_is_wrapped_around_it(wrap):
    assert leads_to_dispatcher(wrap(get_asgi_application()))
    assert not leads_to_dispatcher(wrap(django_app))


def test_an_application_that_holds_itself_ends_the_search():
    around = Around(None)
    around.inner = around
    assert not leads_to_dispatcher(around)
