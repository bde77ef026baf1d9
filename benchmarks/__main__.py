"""Run the benchmarks: ``python -m benchmarks [--quick] [--only echo ...]``.

Prints a table for each workload and writes all of them, with versions and machine, to
``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from . import layer, results
from .report import Table, show
from .suite import FULL_SIZE, QUICK_SIZE, TABLES, Suite


def tables(directory: Path, *, quick: bool, only: list[str]) -> Iterator[Table]:
    """Run the workloads that are wanted, one after the other."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        in_process = layer.Layer(runner, quick)
        if not only or "layer" in only:
            yield from in_process.tables()
        size = QUICK_SIZE if quick else FULL_SIZE
        suite = Suite(stack, runner, directory, in_process.session, size)
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
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        os.environ["BENCHMARK_DIRECTORY"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        made: list[Table] = []
        try:
            show(tables(Path(folder), quick=options.quick, only=options.only), made)
        except RuntimeError:
            sys.stderr.write((Path(folder) / "servers.log").read_text()[-4_000:])
            raise
    if not options.only:  # Some workloads are no results.
        results.write(made, quick=options.quick)


if __name__ == "__main__":
    main()
