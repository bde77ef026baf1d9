"""What users write: path, re_path, include, reverse."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import NoReverseMatch, get_script_prefix, set_script_prefix

from django_ws_dispatch.routing import include, path, re_path, reverse
from django_ws_dispatch.routing.routes import Match, Routes, current_routes
from tests.kit.waiting import DEADLINE

SETTINGS_FOLDER = Path(__file__).parents[2]


async def ping(websocket: Any) -> None: ...


async def room(websocket: Any, room: str) -> None: ...


async def anything(websocket: Any, *args: Any, **kwargs: Any) -> None: ...


PING, ROOM, ANYTHING = (f"{__name__}.{name}" for name in ("ping", "room", "anything"))


def find(value: Any, route: str, **scope: Any) -> Match | None:
    return Routes(value).find({"type": "websocket", "path": route, **scope})


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of routes that can be imported by the name ``late_routes``."""
    late = ModuleType("late_routes")
    monkeypatch.setitem(sys.modules, "late_routes", late)
    return late


FORMS: dict[str, Any] = {
    "dict of dotted paths": {"ws/ping/": PING, "ws/rooms/<slug:room>/": ROOM},
    "dict of callables": {"ws/ping/": ping, "ws/rooms/<slug:room>/": room},
    "list of dotted paths": [path("ws/ping/", PING), path("ws/rooms/<slug:room>/", ROOM)],
    "list of callables": [path("ws/ping/", ping), path("ws/rooms/<slug:room>/", room)],
    "tuple": (path("ws/ping/", ping), path("ws/rooms/<slug:room>/", room)),
    "regular expressions": [
        re_path(r"^ws/ping/$", PING),
        re_path(r"^ws/rooms/(?P<room>[\w-]+)/$", ROOM),
    ],
    "include of a list": [
        path("ws/", include([path("ping/", PING), path("rooms/<slug:room>/", ROOM)]))
    ],
    "module": "late_routes",
    "include of a module": [path("", include("late_routes"))],
}


@pytest.mark.parametrize("value", FORMS.values(), ids=FORMS)
def test_every_form_of_the_setting_leads_to_the_handlers(value: Any, module: Any) -> None:
    module.urlpatterns = [path("ws/ping/", PING), path("ws/rooms/<slug:room>/", ROOM)]
    match = find(value, "/ws/ping/")
    assert match is not None
    assert match.handler.callback is ping
    match = find(value, "/ws/rooms/red-1/")
    assert match is not None
    assert match.handler.callback is room
    assert match.resolver_match.kwargs == {"room": "red-1"}
    assert find(value, "/ws/nowhere/") is None


def test_a_dotted_include_is_imported_when_the_routes_are_built(module: Any) -> None:
    included = path("ws/", include("late_routes"))
    module.urlpatterns = [path("ping/", PING)]
    assert find([included], "/ws/ping/") is not None


def test_a_dotted_include_with_an_app_name_and_a_namespace(module: Any) -> None:
    module.urlpatterns = [path("ping/", PING, name="ping")]
    handlers = [
        path("a/", include(("late_routes", "chat"))),
        path("b/", include(("late_routes", "chat"), namespace="second")),
    ]
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        assert reverse("chat:ping") == "/a/ping/"
        assert reverse("second:ping") == "/b/ping/"
        match = current_routes().find({"path": "/b/ping/"})
    assert match is not None
    assert match.resolver_match.app_names == ["chat"]
    assert match.resolver_match.namespaces == ["second"]
    assert match.resolver_match.view_name == "second:ping"


def test_the_app_name_of_an_included_module_counts(module: Any) -> None:
    module.app_name = "chat"
    module.urlpatterns = [path("ping/", PING, name="ping")]
    with override_settings(WEBSOCKET_HANDLERS=[path("ws/", include("late_routes"))]):
        assert reverse("chat:ping") == "/ws/ping/"
        assert reverse(f"chat:{PING}") == "/ws/ping/"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("late_routes", "WEBSOCKET_HANDLERS = 'late_routes' "),
        ([path("ws/", include("late_routes"))], "WEBSOCKET_HANDLERS['ws/']: "),
    ],
)
def test_a_module_whose_urlpatterns_is_no_list_is_named(
    value: Any, where: str, module: Any
) -> None:
    module.urlpatterns = None
    with pytest.raises(ImproperlyConfigured) as raised:
        Routes(value)
    assert str(raised.value).startswith(where)
    assert "its urlpatterns is None, and not a list. Write " in str(raised.value)


@pytest.mark.parametrize(
    ("arg", "namespace"),
    [("nowhere.routes", None), ("tests.handlers", None), ("tests.urls", "without an app_name")],
)
def test_what_can_not_be_included_names_the_route_and_the_remedy(
    arg: str, namespace: str | None
) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"WEBSOCKET_HANDLERS\['ws/'\]: ") as raised:
        Routes([path("ws/", include(arg, namespace=namespace))])
    assert "Write the dotted path of a module with urlpatterns." in str(raised.value)


@pytest.mark.parametrize("unsure", [False, True])
def test_a_module_that_imports_what_is_missing_says_what(unsure: bool, module: Any) -> None:
    module.urlpatterns = [path("x/", "tests.nowhere.handler")]
    value: Any = "late_routes" if unsure else [path("ws/", include("late_routes"))]
    with pytest.raises(ImproperlyConfigured, match=r"No module named 'tests.nowhere'"):
        Routes(value)


NAMED = [
    path("ws/ping/", PING, name="ping"),
    path("ws/rooms/<slug:room>/", ROOM, name="room"),
    re_path(r"^ws/old/(\d+)/$", ANYTHING, name="old"),
    path("ws/optional/", ANYTHING, {"page": 1}, name="paged"),
    path(
        "ws/chat/",
        include(([path("<int:number>/", ANYTHING, name="number")], "chat"), namespace="talk"),
    ),
]


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected"),
    [
        ("ping", None, None, "/ws/ping/"),
        (PING, None, None, "/ws/ping/"),
        ("room", None, {"room": "red"}, "/ws/rooms/red/"),
        ("room", ["red"], None, "/ws/rooms/red/"),
        ("room", ("red",), {}, "/ws/rooms/red/"),
        (ROOM, None, {"room": "red"}, "/ws/rooms/red/"),
        ("old", [7], None, "/ws/old/7/"),
        ("paged", None, {"page": 1}, "/ws/optional/"),
        ("talk:number", None, {"number": 3}, "/ws/chat/3/"),
        (f"talk:{ANYTHING}", None, {"number": 3}, "/ws/chat/3/"),
    ],
)
def test_reverse_by_name_namespace_and_dotted_path(
    name: str, args: Any, kwargs: Any, expected: str
) -> None:
    with override_settings(WEBSOCKET_HANDLERS=NAMED):
        assert reverse(name, args=args, kwargs=kwargs) == expected


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("nothing", None),
        ("room", None),
        ("room", {"room": "with space"}),
        ("number", {"number": 3}),
        (f"{ANYTHING}", {"number": 3}),
        ("nowhere:ping", None),
        ("page", None),
    ],
)
def test_reverse_of_what_fits_no_route_is_djangos_error(name: str, kwargs: Any) -> None:
    with override_settings(WEBSOCKET_HANDLERS=NAMED), pytest.raises(NoReverseMatch):
        reverse(name, kwargs=kwargs)


def test_the_dict_form_has_its_dotted_paths_for_names() -> None:
    with override_settings(WEBSOCKET_HANDLERS={"ws/rooms/<slug:room>/": ROOM}):
        assert reverse(ROOM, kwargs={"room": "red"}) == "/ws/rooms/red/"


def test_one_handler_on_two_routes_is_reversed_by_what_it_is_given() -> None:
    handlers = {"ws/all/": ANYTHING, "ws/one/<int:number>/": ANYTHING}
    with override_settings(WEBSOCKET_HANDLERS=handlers):
        assert reverse(ANYTHING) == "/ws/all/"
        assert reverse(ANYTHING, kwargs={"number": 1}) == "/ws/one/1/"


def test_reverse_follows_the_setting() -> None:
    with override_settings(WEBSOCKET_HANDLERS=[path("a/", PING, name="ping")]):
        assert reverse("ping") == "/a/"
        with override_settings(WEBSOCKET_HANDLERS=[path("b/", PING, name="ping")]):
            assert reverse("ping") == "/b/"
        assert reverse("ping") == "/a/"


def test_reverse_puts_the_script_prefix_in_front() -> None:
    before = get_script_prefix()
    set_script_prefix("/sub/")
    try:
        with override_settings(WEBSOCKET_HANDLERS=NAMED):
            assert reverse("ping") == "/sub/ws/ping/"
    finally:
        set_script_prefix(before)


def test_reverse_with_a_wrong_setting_says_so() -> None:
    with (
        override_settings(WEBSOCKET_HANDLERS={"ws/": "tests.nowhere.ping"}),
        pytest.raises(ImproperlyConfigured, match="WEBSOCKET_HANDLERS"),
    ):
        reverse("ping")


def test_a_handler_is_no_view() -> None:
    pattern: Any = path("ws/", PING)
    with pytest.raises(TypeError, match="is a WebSocket handler: mount it in WEBSOCKET_HANDLERS"):
        pattern.callback(None)


def test_routes_can_be_written_in_settings(tmp_path: Path) -> None:
    (tmp_path / "late_models.py").write_text(
        textwrap.dedent(
            """
            from django.contrib.auth.models import User  # needs the app registry
            from django_ws_dispatch.routing import path

            urlpatterns = [path("x/", "tests.handlers.ping")]
            """
        )
    )
    script = textwrap.dedent(
        """
        import sys
        from django.conf import settings
        from django_ws_dispatch.routing import include, path, re_path, reverse
        from django_ws_dispatch.decorators import login_required
        assert not settings.configured
        from django.apps import apps
        assert not apps.ready
        assert "django.contrib.auth.models" not in sys.modules
        handlers = [
            path("ws/ping/", "tests.handlers.ping", name="ping"),
            re_path("^ws/mount/", "tests.handlers.raw_ping"),
            path("ws/more/", include("late_models")),
        ]
        assert not settings.configured
        from tests import settings as values
        names = {name: getattr(values, name) for name in dir(values) if name.isupper()}
        settings.configure(**{**names, "WEBSOCKET_HANDLERS": handlers})
        from django_ws_dispatch.asgi import get_asgi_application
        get_asgi_application()
        print(reverse("ping"), reverse("tests.handlers.ping"))
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=SETTINGS_FOLDER,
        env={"PYTHONPATH": f"{tmp_path}:{SETTINGS_FOLDER}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    by_name, by_dotted_path = done.stdout.split()
    assert by_name == "/ws/ping/"
    assert by_dotted_path in ("/ws/ping/", "/ws/more/x/")
