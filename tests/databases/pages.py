"""Pages that send: in a transaction, in one that is rolled back, in none, and one that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_ws_dispatch.exceptions import BrokerError
from django_ws_dispatch.groups import Group

Sending = Callable[[Group, str], object]


def in_a_transaction(group: Group, text: str) -> object:
    with transaction.atomic():
        return group.send(text)


def rolled_back(group: Group, text: str) -> object:
    with transaction.atomic():
        group.send(text)
        transaction.set_rollback(True)


def partly_rolled_back(group: Group, text: str) -> object:
    """What is sent in a savepoint that is rolled back is not sent, the rest is."""
    with transaction.atomic():
        with transaction.atomic():
            group.send(f"not {text}")
            transaction.set_rollback(True)
        return group.send(text)


def in_no_transaction(group: Group, text: str) -> object:
    return group.send(text)


def dies(group: Group, text: str) -> object:
    """The process is killed the moment its transaction is committed."""
    with transaction.atomic():
        group.send(text)
    os.kill(os.getpid(), signal.SIGKILL)


def page(send: Sending) -> Callable[[HttpRequest, str, str], HttpResponse]:
    """Answer with what ``send()`` did for each word of the text, or 503 where that failed."""

    def answer(request: HttpRequest, group: str, text: str) -> HttpResponse:
        try:
            return JsonResponse([send(Group(group), word) for word in text.split()], safe=False)
        except (BrokerError, DatabaseError, InterfaceError) as exc:
            return HttpResponse(f"{type(exc).__name__}: {exc}", status=503)

    return answer


urlpatterns = [
    path(f"{send.__name__}/<str:group>/<str:text>/", page(send))
    for send in (in_a_transaction, rolled_back, partly_rolled_back, in_no_transaction, dies)
]
