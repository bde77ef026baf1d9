"""Users that are in no database: another process has to know them."""

from __future__ import annotations

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore

__all__ = ["Visitors", "cookie"]


class Visitors(BaseBackend):
    """Every number is a user."""

    def get_user(self, user_id: int) -> User:
        return User(pk=user_id, username=f"visitor {user_id}", password="!")


def cookie(user_id: int) -> str:
    """Return the ``Cookie`` header of a browser in which that user has logged in."""
    session = SessionStore()
    session[SESSION_KEY] = str(user_id)
    session[BACKEND_SESSION_KEY] = f"{__name__}.{Visitors.__name__}"
    session[HASH_SESSION_KEY] = Visitors().get_user(user_id).get_session_auth_hash()
    session.save()
    return f"sessionid={session.session_key}"
