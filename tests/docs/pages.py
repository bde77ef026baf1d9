"""The pages of docs/, as tests see them: their fenced blocks, and a project to put these into."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from django.core.management import call_command

import django_ws_dispatch

DOCS = Path(__file__).resolve().parents[2] / "docs"
TIMEOUT = 120

_FENCE = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|\{#|//|<!--) ([\w./-]+\.(?:py|html|js))(, at the end)?(?: #\}| -->)?")


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    file: str | None
    """the file that it is, from its first line"""
    at_end: bool
    """whether it comes at the end of that file, instead of being all of it"""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that have a language; a directive is none."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        name = _NAME.fullmatch(match[2].partition("\n")[0])
        found.append(
            Block(
                match[1],
                match[2],
                text[: match.start()].count("\n") + 2,
                name[1] if name else None,
                bool(name and name[2]),
            )
        )
    return found


def pages() -> list[Path]:
    """Return the pages of docs/ whose code is executed."""
    howto = sorted(page for page in (DOCS / "howto").glob("*.md") if page.stem != "index")
    return [DOCS / "intro.md", DOCS / "tutorial.md", *howto]


class Project:
    """A Django project in a folder, and the commands run in it."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DJANGO_SETTINGS_MODULE", "PYTHONWARNINGS", "NO_COLOR")
        }
        self.environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        )
        # The package under test, and no other that may be installed.
        self.environment["PYTHONPATH"] = str(Path(django_ws_dispatch.__file__).parents[1])
        self.environment["PYTHONUNBUFFERED"] = "1"
        self.environment["NO_PROXY"] = self.environment["no_proxy"] = "127.0.0.1,localhost"

    def write(self, block: Block) -> None:
        """Put a block into its file."""
        if block.file is None:
            raise ValueError(f"the block at line {block.line} names no file")
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if block.at_end else "w") as file:
            file.write("\n\n" * block.at_end + block.text)

    def run(self, *command: str) -> str:
        """Run a command; return what it printed.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
            )
        return done.stdout

    def python(self, *arguments: str) -> str:
        return self.run(sys.executable, "-W", "error", *arguments)


def new_project(
    folder: Path, name: str = "mysite", *, wired: bool = True, installed: bool = True
) -> Project:
    """Return a project as ``startproject`` makes it, with an app ``chat``.

    Args:
        name: ``"config"`` has its settings where cookiecutter-django has them.
        wired: its asgi.py has this package's import, and its settings no routes.
        installed: its settings have this package's app.
    """
    project = Project(folder, "config.settings.local" if name == "config" else f"{name}.settings")
    call_command("startproject", name, str(folder))
    package = folder / name
    shutil.copy(Path(__file__).parent / "run_blocks.py", folder)
    (folder / "chat").mkdir()
    (folder / "chat" / "__init__.py").touch()
    if name == "config":
        settings = package / "settings"
        settings.mkdir()
        (settings / "__init__.py").touch()
        base = (package / "settings.py").read_text()
        (settings / "base.py").write_text(base.replace(".parent.parent", ".parent.parent.parent"))
        (settings / "local.py").write_text("from .base import *\n")
        (package / "settings.py").unlink()
    if wired:
        asgi = package / "asgi.py"
        asgi.write_text(asgi.read_text().replace("django.core.asgi", "django_ws_dispatch.asgi"))
        with (package / "settings.py").open("a") as settings_file:
            settings_file.write('INSTALLED_APPS += ["chat"]\nWEBSOCKET_HANDLERS = {}\n')
            if installed:
                settings_file.write('INSTALLED_APPS.insert(0, "django_ws_dispatch")\n')
    return project
