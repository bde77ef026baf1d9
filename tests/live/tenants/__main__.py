"""Who reads whose rows, in numbers: ``python -m tests.live.tenants``.

Two tenants, and sockets of both that read in every way at once, some of them after they have set
the tenant themselves. With the two settings, and without. The status is 1 if a row of the other
tenant was read, or if with the settings somebody did not get their own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from time import monotonic

from tests.kit.postgres import PostgresServer, find_binaries
from tests.kit.valkey import Valkey

from .sites import QUICKLY, Sites
from .visits import WAYS, storm

RUNS = [
    ("django-tenants, sync middleware", "schemas", {"LIVE_MIDDLEWARE": "sync"}),
    ("django-tenants, async middleware", "schemas", {"LIVE_MIDDLEWARE": "async"}),
    ("row-level security, sync middleware", "policies", {"LIVE_MIDDLEWARE": "sync"}),
    ("row-level security, async middleware", "policies", {"LIVE_MIDDLEWARE": "async"}),
]
WIDTH = 14


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def tell_row(*columns: object) -> None:
    tell("".join(str(column).rjust(WIDTH) for column in columns))


def is_error(answer: str) -> bool:
    return "Error: " in answer


def run(sites: Sites, sockets: int, answers: int, *, without: bool) -> bool:
    """Return whether all is well."""
    well = True
    for name, kind, environment in RUNS:
        more = {"LIVE_WITHOUT": "1"} if without else {}
        began = monotonic()
        with sites.serve(kind, **QUICKLY, **environment, **more) as site:
            found = asyncio.run(storm((site.red, site.blue), sockets, answers))
        which = f"{name}, {'without' if without else 'with'} the settings"
        tell(f"\n{which} ({found.total()} answers, {monotonic() - began:.0f} s)")
        well = show(found, without=without) and found.total() == answers and well
    return well


def show(found: Counter[tuple[str, str]], *, without: bool) -> bool:
    crossed = 0
    tell_row("", "own", "an error", "the other's")
    for way in WAYS:
        told = {answer: count for (one, answer), count in found.items() if one == way}
        own = told.pop("own", 0)
        errors = sum(count for answer, count in told.items() if is_error(answer))
        others = sum(told.values()) - errors
        tell_row(way, own, errors, others)
        crossed += others + (0 if without else errors)
    for error in {answer.partition("\n")[0] for _, answer in found if is_error(answer)}:
        tell(f"  {error}")
    return not crossed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sockets", type=int, default=200, help="a multiple of 8")
    parser.add_argument("--answers", type=int, default=20_000, help="in each run, of all sockets")
    options = parser.parse_args()
    binaries = find_binaries()
    if binaries is None:
        parser.error("PostgreSQL (postgres, initdb, pg_isready) is not installed.")
    postgres = PostgresServer(binaries)
    try:
        postgres.start()
        with Valkey() as broker:
            sites = Sites(postgres, broker)
            runs = [
                run(sites, options.sockets, options.answers, without=without)
                for without in (False, True)
            ]
    finally:
        postgres.remove()
    tell("\nNothing has crossed." if all(runs) else "\nThis is wrong.")
    return 0 if all(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
