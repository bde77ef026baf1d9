"""Where a task is, for people who wonder why nothing happens."""

from __future__ import annotations

import asyncio
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["frames", "place"]

_PACKAGE = str(Path(__file__).parent.parent)
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_PYTHON = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def frames(task: asyncio.Task[Any]) -> list[tuple[FrameType, int]]:
    """Return what a task that waits is in, each with its line, outermost first.

    This package's own frames are among them only where there are no others.
    """
    found = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                found.append((frame, frame.f_lineno))
                break
        else:
            break
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    theirs = [one for one in found if not _file(one).startswith(_PACKAGE)]
    return theirs or found


def place(task: asyncio.Task[Any]) -> str:
    """Return the file and the line of a site's own code that a task is in, as far as there is any.

    Else those of an installed package, or of Python.
    """
    found = frames(task)[::-1]
    if not found:
        return "nowhere"
    installed = [one for one in found if not _is_python(_file(one))]
    own = [one for one in installed if not _file(one).startswith(_INSTALLED)]
    one = (own or installed or found)[0]
    return f"{_file(one)}:{one[1]}"


def _file(one: tuple[FrameType, int]) -> str:
    return one[0].f_code.co_filename


def _is_python(file: str) -> bool:
    # Packages may be installed below it.
    return file.startswith(_PYTHON) and not file.startswith(_INSTALLED)
