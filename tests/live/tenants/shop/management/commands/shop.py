"""What somebody does to a tenant in a process of its own: ``manage.py shop red say hello``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.base import BaseCommand

from django_ws_dispatch import groups
from django_ws_dispatch.groups import Group, user_group


class Command(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("tenant")
        parser.add_argument("what")
        parser.add_argument("about", nargs="*")

    def handle(self, *, tenant: str, what: str, about: list[str], **options: Any) -> None:
        with import_module(settings.TENANCY).within(tenant):
            getattr(self, what)(*about)

    def say(self, text: str) -> None:
        Group("lobby").send(text)

    def tell(self, name: str, text: str) -> None:
        user_group(User.objects.get(username=name)).send(text)

    def deactivate(self, name: str) -> None:
        user = User.objects.get(username=name)
        user.is_active = False
        user.save()

    def deactivate_everywhere(self, name: str) -> None:
        """One whom all tenants share."""
        with groups.namespace(""):
            self.deactivate(name)

    def change_password(self, name: str) -> None:
        user = User.objects.get(username=name)
        user.set_password("another")
        user.save()

    def end_session(self, key: str) -> None:
        SessionStore(key).delete()

    def quietly_deactivate(self, name: str) -> None:
        """Without a signal."""
        User.objects.filter(username=name).update(is_active=False)
