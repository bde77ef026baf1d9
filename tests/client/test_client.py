"""The page's side, as it is served, packed and typed, and its own tests under Node."""

from __future__ import annotations

import configparser
import gzip
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.management import call_command

import django_ws_dispatch
from tests.kit.missing import missing
from tests.kit.waiting import DEADLINE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FOLDER = Path(django_ws_dispatch.__file__).parent / "static" / "django_ws_dispatch"
CLIENT = FOLDER / "client.js"
FILES = ["client.d.ts", "client.js", "package.json"]
MOST_BYTES = 5 * 1024
SCRIPTED = sorted(path.name for path in HERE.glob("*.test.mjs") if path.stem != "network.test")

# Only `tox -e client` has all that these need.
live = [pytest.mark.live, pytest.mark.client]


class Aggregating(ManifestStaticFilesStorage):
    """What a site has that hashes the names in JavaScript's modules, too."""

    support_js_module_import_aggregation = True


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


@pytest.fixture(scope="module")
def node():
    """Node, and new enough to have a WebSocket."""
    found = shutil.which("node")
    if found is None:
        missing("node")
    if int(run(found, "-p", "parseInt(process.versions.node)", cwd=HERE)) < 22:
        missing("Node 22")
    return found


@pytest.fixture(scope="module")
def npm(node):
    found = shutil.which("npm")
    if found is None:
        missing("npm")
    return found


@pytest.fixture(scope="module")
def modules(npm):
    """The folder with ``ws`` and ``typescript``: ``NODE_PATH``, or one that npm fills once."""
    wanted = ["typescript", "ws"]
    given = Path(os.environ.get("NODE_PATH") or "nowhere")
    if all((given / name / "package.json").exists() for name in wanted):
        return given
    folder = Path(tempfile.gettempdir()) / "django-ws-dispatch-client"
    found = folder / "node_modules"
    if not all((found / name / "package.json").exists() for name in wanted):
        folder.mkdir(exist_ok=True)
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--no-save"]
        command += ["--no-package-lock", "--prefix", str(folder), *wanted]
        if subprocess.run(command, timeout=4 * DEADLINE, check=False).returncode:
            missing("npm's ws, or typescript,")
    return found


@pytest.fixture(scope="module")
def package(npm):
    """What npm packs."""
    return json.loads(run(npm, "pack", "--dry-run", "--json", "--loglevel=error", cwd=FOLDER))[0]


@pytest.fixture
def collect(tmp_path, settings):
    """Collect the static files, a site's too, and return the hashed names."""

    def collect(storage: str) -> dict[str, str]:
        site = tmp_path / "site"
        site.mkdir()
        (site / "page.js").write_text(
            'import { connect } from "./django_ws_dispatch/client.js";\nconnect("/ws/");\n'
        )
        settings.STATICFILES_DIRS = [site]
        settings.STATIC_ROOT = tmp_path / "static"
        settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": storage}}
        finders.get_finder.cache_clear()
        call_command("collectstatic", interactive=False, verbosity=0)
        names: dict[str, str] = json.loads((settings.STATIC_ROOT / "staticfiles.json").read_text())[
            "paths"
        ]
        return names

    yield collect
    finders.get_finder.cache_clear()


def test_the_client_is_at_most_5_kib_as_it_goes_over_the_wire():
    assert len(gzip.compress(CLIENT.read_bytes(), 9, mtime=0)) <= MOST_BYTES


def test_the_client_is_one_module_without_dependencies():
    source = CLIENT.read_text(encoding="utf-8")
    assert not re.search(r"\bimport\b|\brequire\(|\bfrom\s*[\"']|sourceMappingURL", source)
    assert re.findall(r"^export .*", source, re.MULTILINE) == [
        "export function connect(url, options) {"
    ]


@pytest.mark.parametrize(
    "storage",
    [
        "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        f"{__name__}.Aggregating",
    ],
)
def test_collectstatic_finds_the_client_and_leaves_it_as_it_is(collect, settings, storage):
    names = collect(storage)
    for file in FILES:
        hashed = names[f"django_ws_dispatch/{file}"]
        assert re.fullmatch(
            rf"django_ws_dispatch/{file.split('.')[0]}.*\.[0-9a-f]{{12}}\.\w+", hashed
        )
        assert (settings.STATIC_ROOT / hashed).read_bytes() == (FOLDER / file).read_bytes()


def test_a_page_whose_modules_are_hashed_gets_the_client_by_its_hashed_name(collect, settings):
    names = collect(f"{__name__}.Aggregating")
    client = names["django_ws_dispatch/client.js"]
    assert f'"./{client}"' in (settings.STATIC_ROOT / names["page.js"]).read_text()


def test_the_wheel_has_the_client():
    assert sorted(path.name for path in FOLDER.iterdir()) == FILES
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["django_ws_dispatch"].split()
    packed = {path for pattern in patterns for path in FOLDER.parent.parent.glob(pattern)}
    assert packed >= {FOLDER / file for file in FILES}


def test_what_npm_packs_has_the_version_of_the_package():
    packed = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    assert packed["version"] == django_ws_dispatch.__version__
    assert packed["name"] == "django-ws-dispatch"
    assert not {"dependencies", "peerDependencies", "scripts"} & packed.keys()


class TestUnderNode:
    pytestmark = live

    def test_the_client_does_all_that_it_promises_with_a_scripted_server(self, node):
        assert len(SCRIPTED) > 5
        run(node, "--test", *SCRIPTED, cwd=HERE)

    def test_the_client_connects_with_nodes_websocket_and_with_that_of_ws(self, node, modules):
        run(node, "--test", "network.test.mjs", cwd=HERE, NODE_PATH=str(modules))

    def test_ten_thousand_clients_do_not_come_back_at_once(self, node):
        for line in run(node, "simulation.mjs", cwd=HERE).splitlines():
            told = json.loads(line)
            assert told["open"] == 10_000
            assert told["attempts"] > 50_000
            assert told["share"] <= 0.02

    @pytest.mark.parametrize("resolution", ["nodenext", "bundler"])
    def test_typescript_knows_every_declaration(self, node, modules, package, tmp_path, resolution):
        target = tmp_path / "node_modules" / "django-ws-dispatch"
        target.mkdir(parents=True)
        for file in package["files"]:
            shutil.copy(FOLDER / file["path"], target)
        shutil.copy(HERE / "types.ts", tmp_path)
        (tmp_path / "package.json").write_text('{"type": "module"}')
        module = "nodenext" if resolution == "nodenext" else "esnext"
        run(
            modules / ".bin" / "tsc",
            *("--strict", "--noEmit", "--exactOptionalPropertyTypes"),
            *("--target", "es2022", "--lib", "es2022,dom,dom.iterable"),
            *("--module", module, "--moduleResolution", resolution),
            "types.ts",
            cwd=tmp_path,
        )

    def test_npm_packs_the_client_and_its_types(self, package):
        assert sorted(file["path"] for file in package["files"]) == FILES
        assert (package["name"], package["version"]) == (
            "django-ws-dispatch",
            django_ws_dispatch.__version__,
        )

    def test_who_installs_the_package_gets_one_function(self, node, package, tmp_path):
        target = tmp_path / "node_modules" / "django-ws-dispatch"
        target.mkdir(parents=True)
        for file in package["files"]:
            shutil.copy(FOLDER / file["path"], target)
        script = 'console.log(Object.keys(await import("django-ws-dispatch")).join())'
        out = run(node, "--input-type=module", "-e", script, cwd=tmp_path)
        assert out == "connect\n"

    def test_the_installed_wheel_has_the_client(self):
        """tox installs the wheel, while these tests see the folder."""
        installed = [
            distribution.files or []
            for distribution in importlib.metadata.distributions(name="django-ws-dispatch")
            if distribution.read_text("RECORD")
        ]
        files = next(
            (files for files in installed if any(file.name == "apps.py" for file in files)), None
        )
        if files is None:
            missing("the wheel")
        assert sorted(file.name for file in files if "static" in file.parts) == FILES
