"""``manage.py showwebsockets``."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import conf
from ...routing.routes import Route, Routes

COLUMNS = ("route", "name", "handler", "kind", "decorators")


class Command(BaseCommand):
    help = "Shows every route of WEBSOCKET_HANDLERS, with what is wrong with it."
    # It shows what the checks would stop it for.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Writes JSON, for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            routes = Routes(conf.handlers, strict=False).routes
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc
        rows = [describe(route) for route in routes]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
        elif rows:
            self.write_table(rows)
        else:
            self.stdout.write("WEBSOCKET_HANDLERS has no routes.")

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        lines = [tuple(cell(row, column) for column in COLUMNS) for row in rows]
        heads = tuple(column.capitalize() for column in COLUMNS)
        widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
        self.stdout.write(self.style.MIGRATE_HEADING(aligned(heads, widths)))
        for row, line in zip(rows, lines, strict=True):
            if row["problem"] is None:
                self.stdout.write(aligned(line, widths))
            else:
                self.stdout.write(self.style.ERROR(f"{line[0]:{widths[0]}}  {row['problem']}"))
                if row["remedy"]:
                    self.stdout.write(" " * widths[0] + f"  {row['remedy']}")


def describe(route: Route) -> dict[str, Any]:
    """One route for people and programs; what is wrong with it, if something is."""
    handler, error = route.handler, route.error
    return {
        "route": route.route,
        "name": route.name,
        "handler": handler.name if handler else None,
        "kind": ("ASGI" if handler.raw else "WebSocket") if handler else None,
        "decorators": [one.name for one in handler.options.applied] if handler else [],
        "problem": error.problem if error else None,
        "remedy": error.remedy if error else None,
    }


def cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    if row["problem"] is not None and column != "route":
        return ""
    if column == "route":
        return value or '""'
    return ", ".join(value) if isinstance(value, list) else value or ""


def aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()
