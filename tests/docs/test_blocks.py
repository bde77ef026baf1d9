"""Every Python block of the introduction and the how-tos runs as it stands on the page.

A block whose first line is a comment with a file name is that file of a new project; ", at the end"
adds it to the file. The others are executed one after the other, in one namespace, with ``await``
where they like. Then the project is checked, and its tests run. The tutorial has a test of its own.

Scripts, templates and commands are only read, each by the program that it is for.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.template import engines
from packaging.requirements import Requirement

from .pages import DOCS, TIMEOUT, blocks, new_project, pages

pytestmark = pytest.mark.once

# What a page's blocks import beyond this package's own extras.
NEEDS = {
    "howto/celery.md": "celery",
    "howto/from-channels.md": "channels",
    "howto/gunicorn.md": "uvicorn_worker",
    "howto/opentelemetry.md": "opentelemetry",
    "howto/sentry.md": "sentry_sdk",
    "howto/tenants.md": "django_tenants",
}

# What the pages install of other people's.
THEIRS = {
    "gunicorn",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-django",
    "opentelemetry-sdk",
    "sentry-sdk",
    "uvicorn-worker",
}

PYTEST_INI = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

PING = """
from django_ws_dispatch.testing import WebSocketClient
async with WebSocketClient().connect({path!r}) as socket:
    await socket.send("ping")
    assert await socket.receive() == "pong!"
"""

# What is tried beyond the page's own tests.
ALSO = {
    "intro.md": [PING.format(path="/ws/ping/"), PING.format(path="/ws/raw/")],
    "howto/from-raw-asgi.md": [PING.format(path="/ws/ping/"), PING.format(path="/ws/pong/")],
}

NOT_PYTHON = {
    *("sh", "js", "html", "django", "nginx", "ini", "text", "json", "console"),
    *("dockerfile", "yaml", "ts"),
}


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def test_every_block_has_a_language_that_is_known() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.language in {"python", *NOT_PYTHON}, f"{page}:{block.line}"
        fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
        assert "```" in fences or not fences
        opened = fences[::2]
        assert "```" not in opened, f"{page} has a block without a language"


def has_entry(page: Path) -> bool:
    """Whether the settings of a page have this package's app."""
    return any(
        re.search(r"^INSTALLED_APPS = .*\"django_ws_dispatch\"", block.text, re.MULTILINE)
        for block in blocks(page)
    )


@pytest.mark.parametrize("page", [*DOCS.rglob("*.md"), DOCS.parent / "README.md"], ids=str)
def test_a_page_with_settings_or_an_asgi_py_has_the_app_in_them(page: Path) -> None:
    # Without it no application is built: what is copied from a page must have it.
    files = [block.file or block.text.partition("\n")[0] for block in blocks(page)]
    if any(re.search(r"(settings(/\w+)?|asgi)\.py", file) for file in files):
        assert has_entry(page), f"{page} lacks INSTALLED_APPS"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if page.stem != "tutorial"], ids=name_of)
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    name = name_of(page)
    python = [block for block in blocks(page) if block.language == "python"]
    also = ALSO.get(name, [])
    if not python:
        pytest.skip("no Python on this page")
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    # Where a page has all of an asgi.py and is no chat's, it has all that there is to write.
    whole = name in ("intro.md", "howto/from-raw-asgi.md")
    package = "config" if name == "howto/from-raw-asgi.md" else "mysite"
    project = new_project(tmp_path, package, wired=not whole, installed=not has_entry(page))
    modules = []
    for block in blocks(page):
        if block.file is None:
            continue
        project.write(block)
        is_site = block.file.startswith(("mysite/", "config/"))
        is_test = Path(block.file).name.startswith("test")
        if block.language == "python" and not is_site and not is_test:
            modules.append(block.file.removesuffix(".py").replace("/", "."))
    loose = [(block.line, block.text) for block in python if block.file is None]
    pieces = [*loose, *((0, code) for code in also)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "run_blocks.py", *dict.fromkeys(modules)],
        cwd=project.folder,
        env={**project.environment, "DJANGO_SETTINGS_MODULE": project.settings},
        input=json.dumps(pieces),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert not done.returncode, f"{name}:\n{done.stdout}\n{done.stderr}"
    files = [block.file for block in python if block.file is not None]
    if any(file.endswith("tests.py") for file in files):
        assert "tests: 0" not in done.stdout
    for_pytest = [file for file in files if Path(file).name.startswith("test_")]
    if for_pytest:
        (tmp_path / "pytest.ini").write_text(PYTEST_INI)
        options = ["-q", "-p", "no:cacheprovider", f"--ds={project.settings}"]
        if not entry_points(group="pytest11", name="django_ws_dispatch"):
            options += [
                "-p",
                "django_ws_dispatch.testing.pytest_plugin",
            ]  # not installed: a checkout
        project.python("-m", "pytest", *options, *for_pytest)


def definitions(text: str) -> dict[str, str]:
    """The functions and classes of a module by their names, without types."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.arg):
                    inner.annotation = None
                elif isinstance(inner, ast.FunctionDef):
                    inner.returns = None
            found[node.name] = ast.unparse(node)
    return found


@pytest.mark.parametrize(
    ("file", "tested"), [("mysite/tenants.py", "schemas.py"), ("chat/tenants.py", "policies.py")]
)
def test_what_the_page_of_tenants_has_is_what_is_tested_on_postgresql(
    file: str, tested: str
) -> None:
    (block,) = [block for block in blocks(DOCS / "howto/tenants.md") if block.file == file]
    site = definitions((DOCS.parent / "tests/live/tenants" / tested).read_text())
    shown = definitions(block.text)
    assert shown == {name: site[name] for name in shown}


PAGES = pytest.mark.parametrize("page", pages(), ids=name_of)
TEMPLATES = {"django", "html"}


def scripts(page: Path) -> dict[int, str]:
    """The JavaScript of a page, by its line: blocks, and what templates have in <script>.

    An import map is none.
    """
    found = {}
    for block in blocks(page):
        if block.language == "js":
            found[block.line] = block.text
        elif block.language in TEMPLATES:
            for script in re.finditer(
                "(?s)<script(?![^>]*importmap)[^>]*>(.*?)</script>", block.text
            ):
                found[block.line + block.text[: script.start()].count("\n")] = script[1]
    return found


# Live, where CI says that there is Node.
@pytest.mark.live
@pytest.mark.skipif(not (shutil.which("node") or os.environ.get("CI")), reason="node is missing")
@PAGES
def test_the_scripts_of_a_page_are_javascript(page: Path, tmp_path: Path) -> None:
    for line, text in scripts(page).items():
        # Modules: these may import, and await where they like.
        file = tmp_path / f"line-{line}.mjs"
        file.write_text(text)
        done = subprocess.run(["node", "--check", file], stderr=subprocess.PIPE, text=True)
        assert not done.returncode, f"{page}:{line}\n{done.stderr}"


@PAGES
def test_the_templates_of_a_page_compile(page: Path) -> None:
    for block in blocks(page):
        if block.language in TEMPLATES:
            engines["django"].from_string(block.text)


def read(command: list[str]) -> bool:
    """Let the program that a command is for read it; ``False`` if that is not known here.

    Raises:
        Exception: the program would refuse it.
    """
    match command:
        case ["pip", "install", *wanted]:
            setup = configparser.ConfigParser()
            setup.read(DOCS.parent / "setup.cfg")
            for requirement in map(Requirement, wanted):
                if requirement.name in THEIRS:
                    continue
                assert requirement.name == setup["metadata"]["name"]
                assert requirement.extras <= set(setup["options.extras_require"])
        case ["uvicorn", *arguments]:
            pytest.importorskip("uvicorn").main.make_context("uvicorn", arguments)
        case ["gunicorn", *arguments]:
            pytest.importorskip("gunicorn.config").Config().parser().parse_args(arguments)
        case ["python", "-c", code]:
            compile(code, "-c", "exec")
        case ["exec", *rest]:
            return read(rest)
        case ["set", "-e"] | ["systemctl", "reload", "mysite"]:
            pass
        case ["python", "manage.py", name, *arguments]:
            parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
            parser.parse_args(arguments)
        case _:
            return False
    return True


@PAGES
def test_the_commands_of_a_page_are_those_of_their_programs(page: Path) -> None:
    for block in blocks(page):
        text = block.text.replace("\\\n", "")
        lines = text.splitlines() if block.language == "sh" else []
        if block.language == "ini":
            lines = re.findall(r"^ExecStart=(?:/\S*/)?(.*)$", text, re.MULTILINE)
        commands = [shlex.split(line) for line in lines if not line.startswith("#")]
        if block.language == "dockerfile":
            found = re.findall(r"^(?:HEALTHCHECK )?CMD (\[.*\])$", text, re.MULTILINE)
            commands = [json.loads(command) for command in found]
        for command in commands:
            # The tutorial is done as a whole, the commands of the shell's own too.
            assert read(command) or page.stem == "tutorial", command


@PAGES
def test_the_yaml_of_a_page_is_yaml(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            assert pytest.importorskip("yaml").safe_load(block.text)
