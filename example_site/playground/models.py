from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from django_ws_dispatch.groups import Group, user_group

# Everybody's notices: the group of all open notification pages.
EVERYBODY = Group("notices")


class Room(models.Model):
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=60)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title

    @classmethod
    def overview(cls) -> models.QuerySet[Room]:
        """Return all rooms with the text said ``last``."""
        said = Message.objects.filter(room=models.OuterRef("pk")).order_by("-pk").values("text")
        return cls.objects.annotate(last=models.Subquery(said[:1]))

    @property
    def group(self) -> Group:
        return Group(f"room:{self.slug}")

    def newest(self) -> list[dict[str, Any]]:
        """Return the messages that a page begins with, oldest first."""
        found = self.messages.select_related("author").order_by("-pk")[:50]
        return [each.as_event() for each in found][::-1]


class Message(models.Model):
    MAX_LENGTH = 500

    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=MAX_LENGTH)
    written_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"

    def as_event(self) -> dict[str, Any]:
        return {
            "id": self.pk,
            "author": self.author.get_username(),
            "text": self.text,
            "at": self.written_at,
        }


class Notice(models.Model):
    """A line on the notification pages: of one user, or of everybody."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True)
    text = models.CharField(max_length=200)
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.text

    def as_event(self) -> dict[str, Any]:
        return {
            "id": self.pk,
            "for": self.user.get_username() if self.user else None,
            "text": self.text,
            "at": self.sent_at,
        }

    @classmethod
    def visible_to(cls, user: AbstractBaseUser | AnonymousUser) -> models.QuerySet[Notice]:
        return cls.objects.filter(models.Q(user=None) | models.Q(user=user.pk)).select_related(
            "user"
        )

    def publish(self) -> None:
        """Send the notice to the open pages it is for. Call it once the row is committed."""
        group = user_group(self.user) if self.user else EVERYBODY
        group.send_json(self.as_event())
