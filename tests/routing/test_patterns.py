"""What can be said of a URL pattern without a path."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.test import override_settings
from django.urls.resolvers import RegexPattern
from django.utils.translation import gettext_lazy

from django_ws_dispatch.routing import include, path, re_path
from django_ws_dispatch.routing.patterns import (
    MountPattern,
    beginning,
    depends_on_language,
    is_literal,
    is_mount,
    leaves,
    may_fit,
    shape_of,
    with_patterns,
)
from tests.routing.finding import anything, application


@pytest.mark.parametrize(
    ("pattern", "prefix", "expected"),
    [
        (path("", anything), "", ""),
        (path("ws", anything), "", ""),
        (path("ws/", anything), "", "ws/"),
        (path("ws/rooms", anything), "", "ws/"),
        (path("ws/rooms/", anything), "", "ws/rooms/"),
        (path("ws/<slug:room>/", anything), "", "ws/"),
        (path("ws/room-<slug:room>/", anything), "", "ws/"),
        (path("<slug:room>/", anything), "ws/", "ws/"),
        (path("rooms/", anything), "ws/", "ws/rooms/"),
        (path("rooms/", anything), "ws", "wsrooms/"),
        (re_path("^rooms/$", anything), "ws/", "ws/"),
        (path(gettext_lazy("rooms/"), anything), "ws/", "ws/"),
    ],
)
def test_every_path_for_it_begins_with_its_literal_segments(
    pattern: Any, prefix: str, expected: str
) -> None:
    assert beginning(pattern, prefix) == expected


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        (path("ws/", anything), True),
        (path("", anything), True),
        (path("ws/", include([path("<int:n>/", anything)])), True),
        (path("ws/<int:n>/", anything), False),
        (re_path("^ws/$", anything), False),
        (path(gettext_lazy("ws/"), anything), False),
    ],
)
def test_a_literal_has_no_converter_and_is_the_same_in_every_language(
    pattern: Any, literal: bool
) -> None:
    assert is_literal(pattern) is literal


@pytest.mark.parametrize(
    ("pattern", "depends"),
    [
        (path("ws/", anything), False),
        (path("<slug:any>/", anything), False),
        (re_path("^ws/$", anything), False),
        (path(gettext_lazy("ws/"), anything), True),
        (re_path(gettext_lazy("^ws/$"), anything), True),
    ],
)
def test_what_is_translated_depends_on_the_language(pattern: Any, depends: bool) -> None:
    assert depends_on_language(pattern) is depends


@pytest.mark.parametrize(
    ("pattern", "prefix", "route", "may"),
    [
        (path("ws/<int:n>/", anything), "", "ws/5/", True),
        (path("ws/<int:n>/", anything), "", "ws/five/", False),
        (path("<int:n>/", anything), "ws/", "ws/5/", True),
        (path("<int:n>/", anything), "ws/", "5/", False),
        (path("<int:n>/", anything), "ws/", "in/5/", False),
        (re_path("^ws/[a-f]$", anything), "", "ws/a", True),
        (re_path("^ws/[a-f]$", anything), "", "ws/x", False),
        (path(gettext_lazy("ws/"), anything), "", "somewhere/", True),
    ],
)
def test_a_path_may_be_for_it_where_its_regular_expression_fits(
    pattern: Any, prefix: str, route: str, may: bool
) -> None:
    assert may_fit(pattern, prefix, route) is may


def test_no_converter_is_asked_whether_a_path_may_be_for_it() -> None:
    pattern = path("<int:n>/", anything)

    def to_python(value: str) -> int:
        raise AssertionError("asked")

    pattern.pattern.converters["n"].to_python = to_python  # type: ignore[method-assign]
    try:
        assert may_fit(pattern, "", "5/")
    finally:
        del pattern.pattern.converters["n"].to_python


@override_settings(LANGUAGES=[("en", "English"), ("de", "German")], LANGUAGE_CODE="en")
def test_a_prefix_of_the_language_may_be_for_a_path_that_begins_with_one() -> None:
    (always,) = i18n_patterns(path("ws/", anything))
    (but_for_one,) = i18n_patterns(path("ws/", anything), prefix_default_language=False)
    for pattern in (always, but_for_one):
        assert may_fit(pattern, "", "de/whatever/")
        assert not may_fit(pattern, "", "fr/ws/")
    assert not may_fit(always, "", "ws/")
    assert may_fit(but_for_one, "", "ws/")


def test_the_leaves_are_those_behind_literal_includes_in_their_order() -> None:
    inner, other = path("a/", anything), path("<slug:b>/", anything)
    around = path("<slug:tenant>/", include([path("x/", anything)]))
    first = path("first/", anything)
    patterns = [first, path("ws/", include([inner, path("in/", include([other]))])), around]
    found = list(leaves(patterns))
    assert [(prefix, pattern) for prefix, pattern, _ in found] == [
        ("", first),
        ("ws/", inner),
        ("ws/in/", other),
        ("", around),
    ]


def test_a_leaf_alone_is_resolved_as_among_the_others() -> None:
    patterns = [
        path("ws/", include(([path("a/", anything, name="a"), path("b/", anything)], "chat")))
    ]
    (_, _, alone), _ = leaves(patterns)
    match = alone.resolve("ws/a/")
    assert (match.view_name, match.func) == ("chat:a", anything)
    assert len(alone.url_patterns) == 1
    assert len(patterns[0].url_patterns) == 2


def test_an_include_around_others_keeps_its_names_and_arguments() -> None:
    around = path("ws/", include(([], "chat"), namespace="talk"), {"page": 1})
    copied = with_patterns(around, [path("a/", anything, name="a")])
    match = copied.resolve("ws/a/")
    assert (match.app_names, match.namespaces) == (["chat"], ["talk"])
    assert match.kwargs == {"page": 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (path("ws/<int:a>/", anything), path("ws/<int:b>/", anything)),
        (path("ws/<a>/", anything), path("ws/<str:b>/", anything)),
        (path("ws/", anything), re_path("^ws/$", anything)),
        (path("ws/", anything), re_path(r"^ws/\Z", anything)),
    ],
)
def test_what_fits_the_same_paths_has_one_shape(one: Any, other: Any) -> None:
    assert shape_of(one, "in/") == shape_of(other, "in/")
    assert shape_of(one, "in/") != shape_of(other, "elsewhere/")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (path("ws/<int:a>/", anything), path("ws/<slug:a>/", anything)),
        (path("ws/", anything), path("ws", anything)),
        (path("ws/", anything), re_path("^ws/", application)),
        (re_path("^ws/[a-f]$", anything), re_path("^ws/[a-z]$", anything)),
    ],
)
def test_what_fits_other_paths_has_another_shape(one: Any, other: Any) -> None:
    assert shape_of(one, "") != shape_of(other, "")


@pytest.mark.parametrize(
    ("pattern", "mount"),
    [
        (re_path("^ws/", application), True),
        (re_path("", application), True),
        (re_path("^ws/$", application), False),
        (re_path(r"^ws/\Z", application), False),
        (path("ws/", application), False),
    ],
)
def test_a_regular_expression_without_an_end_is_a_mount(pattern: Any, mount: bool) -> None:
    assert is_mount(pattern) is mount


def test_a_mount_says_what_it_left_of_the_path_and_whose_it_is() -> None:
    match = MountPattern(RegexPattern("^ws/"), application).resolve("ws/rooms/5")
    assert match is not None
    callback: Any = match.func
    assert callback.rest == "rooms/5"
    assert callback.__name__ == "application"
