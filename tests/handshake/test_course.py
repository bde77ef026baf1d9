"""A handshake's course through the middleware: who has failed, and whose answer it is."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist
from django.test import override_settings

from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.handshake.course import Course
from django_ws_dispatch.handshake.middleware import (
    Chain,
)
from tests.handshake.chains import HERE, handler, paths, request_for


def course_of(*names: str, query: str = "") -> tuple[HttpResponseBase, Course]:
    course = Course()
    chain = Chain(paths(*names))
    response = async_to_sync(chain.run)(request_for(query), handler, (), {}, course)
    return response, course


def failures(course: Course) -> list[tuple[str, type[Exception]]]:
    return [(culprit, type(exc)) for culprit, exc in course.failures]


ANONYMOUS = "a middleware of WEBSOCKET_MIDDLEWARE"


@pytest.mark.parametrize("name", ["raising", "sync_raising", "RaisingMiddleware"])
def test_a_failure_is_a_500_that_the_middleware_around_it_see(
    name: str, caplog: pytest.LogCaptureFixture, seen: list[Any]
):
    response, course = course_of("async_header", "sync_header", name)
    assert response.status_code == 500
    assert b"broken" not in response.content
    assert response["X-Async"] == response["X-Sync"] == "1"
    assert seen == ["async in", "sync in", "sync out", "async out"]
    assert failures(course) == [(f"the middleware {HERE}.{name}", LookupError)]
    assert course.reason(response) is None
    assert not caplog.records  # who runs the chain tells of it


def test_a_middleware_around_a_failure_may_answer_for_it():
    response, course = course_of("replacing", "raising")
    assert (response.status_code, response.content) == (503, b"500 there")
    assert failures(course) == [(f"the middleware {HERE}.raising", LookupError)]
    assert course.reason(response) == f"the middleware {HERE}.replacing"


def test_each_of_several_failures_is_known():
    _, course = course_of("raising_out", "async_header", "raising")
    assert failures(course) == [
        (f"the middleware {HERE}.raising", LookupError),
        (f"the middleware {HERE}.raising_out", ZeroDivisionError),
    ]


@pytest.mark.parametrize(
    ("name", "query", "kind"),
    [
        ("FailingHooks", "hook=view", LookupError),
        ("FailingHooks", "hook=template", LookupError),
        ("FailingHooks", "hook=nothing", ValueError),
        ("FailingHooks", "hook=exception", LookupError),
        ("SyncFailingHooks", "hook=view", LookupError),
        ("SyncFailingHooks", "hook=template", LookupError),
    ],
)
def test_a_hook_that_fails_is_known_by_its_middleware(name: str, query: str, kind: type[Exception]):
    response, course = course_of("async_header", name, "sync_header", query=query)
    assert response.status_code == 500
    assert failures(course) == [(f"the middleware {HERE}.{name}", kind)]


def test_a_template_that_fails_is_known_by_who_returned_it():
    names = ("sync_header", "MissingTemplate", "async_header")
    response, course = course_of(*names, query="template=1")
    assert response.status_code == 500
    assert failures(course) == [(f"the middleware {HERE}.MissingTemplate", TemplateDoesNotExist)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("returning_nothing", "It returned None, which is no response."),
        ("async_returning_nothing", "It returned None, which is no response."),
        ("unmarked_coroutine", "Decorate it with django.utils.decorators.async_only_middleware."),
    ],
)
def test_what_is_no_response_is_a_failure(name: str, text: str):
    response, course = course_of("async_header", name)
    assert response.status_code == 500
    ((culprit, exc),) = course.failures
    assert culprit == f"the middleware {HERE}.{name}"
    assert text in str(exc)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "Http404"), (403, "PermissionDenied"), (400, "SuspiciousOperation")],
)
@pytest.mark.parametrize("name", ["raising", "sync_raising", "RaisingMiddleware"])
def test_what_has_a_meaning_is_no_failure_and_names_who_raised_it(
    name: str, status: int, kind: str, caplog: pytest.LogCaptureFixture
):
    response, course = course_of("sync_header", name, query=f"status={status}")
    assert response.status_code == status
    assert response["X-Sync"] == "1"
    assert failures(course) == []
    assert course.reason(response) == f"the middleware {HERE}.{name} raised {kind}"
    security = [record.name for record in caplog.records]
    assert security == ["django.security.SuspiciousOperation"] * (status == 400)


@pytest.mark.parametrize("name", ["raising", "sync_raising"])
def test_an_outage_of_the_broker_is_a_failure_as_on_a_page(name: str):
    response, course = course_of(name, query="status=503")
    assert response.status_code == 500
    assert failures(course) == [(f"the middleware {HERE}.{name}", BrokerError)]


def test_a_deny_is_its_response():
    response, course = course_of("async_header", "raising", query="status=429")
    assert response.status_code == 429
    assert course.reason(response) == f"the middleware {HERE}.raising raised Deny"


def test_the_site_s_own_pages_answer_for_what_middleware_raises():
    with override_settings(ROOT_URLCONF=ErrorPages):
        response, _ = course_of("raising", query="status=404")
        assert (response.status_code, response.content) == (404, b"no such room here")
        response, course = course_of("raising", query="status=403")
    assert response.status_code == 500
    assert failures(course) == [(f"the middleware {HERE}.raising", LookupError)]
    assert isinstance(course.failures[0].exc.__context__, PermissionDenied)


class ErrorPages:
    """A urlconf."""

    urlpatterns: tuple[Any, ...] = ()

    @staticmethod
    def handler404(request: Any, exception: Exception) -> HttpResponse:
        return HttpResponse(f"{exception} here", status=404)

    @staticmethod
    def handler403(request: Any, exception: Exception) -> HttpResponse:
        raise LookupError("no template")


@pytest.mark.parametrize("name", ["denying", "DenyingView"])
def test_a_response_is_known_by_the_middleware_that_made_it(name: str):
    response, course = course_of("async_header", "sync_header", name, "ViewMiddleware")
    assert response.status_code == 418
    assert course.reason(response) == f"the middleware {HERE}.{name}"


def test_a_response_that_only_became_a_denial_has_no_name():
    response, course = course_of("async_header", "changing")
    assert response.status_code == 403
    assert course.reason(response) == ANONYMOUS


def test_only_the_response_that_was_given_last_has_the_reason():
    course, first, last = Course(), HttpResponse(), HttpResponse()
    course.answer(first, "the middleware a")
    course.answer(last, "the middleware b")
    course.answer(last, "who only hands it on")
    assert course.reason(last) == "the middleware b"
    assert course.reason(first) == ANONYMOUS


def test_who_is_blamed_for_an_exception_is_the_culprit_of_that_one_alone():
    course, one, other = Course(), LookupError("one"), LookupError("one")
    course.blamed = one, "a.b.C"
    assert course.culprit("around", one) == "the middleware a.b.C"
    assert course.culprit("around", other) == "the middleware around"
    assert course.culprit(None, other) == ANONYMOUS
