"""Run the benchmarks: ``python -m benchmarks [--quick] [--only echo ...] [--rows bare+class ...]``.

Prints a table for each workload and writes all of them, with versions and machine, to
``benchmarks/results/``, unless only some were wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from . import layer, results
from .report import Table, show
from .suite import FULL_SIZE, QUICK_SIZE, TABLES, NoSuchRowError, Suite


def tables(directory: Path, *, quick: bool, only: list[str], rows: list[str]) -> Iterator[Table]:
    """Run the workloads that are wanted, one after the other."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        in_process = layer.Layer(runner, quick)
        if not only or "layer" in only:
            yield from in_process.tables()
        size = QUICK_SIZE if quick else FULL_SIZE
        suite = Suite(stack, runner, directory, in_process.session, size, rows)
        for name, table in suite.tables():
            if not only or name in only:
                yield table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of each: two minutes")
    names = ("layer", *TABLES)
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="NAME", help=f"only these of {', '.join(names)}"
    )
    parser.add_argument(
        "--rows",
        nargs="*",
        default=[],
        metavar="ROW",
        help="only these rows of each table, beside its first and A/A, such as package+class",
    )
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    if options.rows and not options.only:
        parser.error("--rows are those of a table: name it with --only")
    # One for each socket, on either side: servers inherit it.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        os.environ["BENCHMARK_DIRECTORY"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        made: list[Table] = []
        wanted = {"only": options.only, "rows": options.rows}
        try:
            show(tables(Path(folder), quick=options.quick, **wanted), made)
        except NoSuchRowError as exc:
            parser.error(str(exc))
        except RuntimeError:
            sys.stderr.write((Path(folder) / "servers.log").read_text()[-4_000:])
            raise
    if not options.only:  # Some workloads are no results.
        results.write(made, quick=options.quick)


if __name__ == "__main__":
    main()
