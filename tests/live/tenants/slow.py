"""Middleware whose query takes its time."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.utils.deprecation import MiddlewareMixin

__all__ = ["SlowMiddleware"]


class SlowMiddleware(MiddlewareMixin):
    def process_request(self, request: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.05)")
