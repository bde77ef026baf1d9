"""The house: who imports whom, what is public, what is nowhere. Read from the source, not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_ws_dispatch

pytestmark = pytest.mark.once

PACKAGE = Path(django_ws_dispatch.__file__).parent
TESTS = Path(__file__).parent

# A room imports only from rooms before it.
ROOMS = [
    "typing",
    "inside",
    "exceptions",
    "codes",
    "signals",
    "reports",
    "limits",
    "loops",
    "conf",
    "servers",
    "lanes",
    "brokers",
    "groups",
    "auth",
    "handshake",
    "websockets",
    "routing",
    "decorators",
    "dispatcher",
    "asgi",
]
# None of the rooms above imports these.
OUTSIDE = ["apps", "checks", "middleware", "templatetags", "management", "testing", "uvicorn"]

MOST_LINES = 350
# Longer ones, and why.
LONG: dict[str, str] = {
    "uvicorn.protocol": "the states of one connection, in one place: uvicorn wants one object",
}

# Modules without a file of tests that mirrors them, and why.
_DATABASE = "it is SQL, which tests/databases has on a server of each kind"
UNMIRRORED = {
    "typing": "names for types of ASGI, which mypy checks wherever they are used",
    **{
        f"brokers.database.{module}": _DATABASE
        for module in (
            "apps",
            "broker",
            "calls",
            "care",
            "channels",
            "checks",
            "history",
            "messages",
            "migrations.0001_initial",
            "models",
            "numbering",
            "presence",
            "rolls",
            "sending",
            "session",
            "subscriber",
            "tables",
        )
    },
}


def modules() -> list[str]:
    """Every module below the package, without the package's name."""
    return sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    )


def source(module: str) -> str:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")


def tree(module: str) -> ast.Module:
    return ast.parse(source(module))


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imported(module: str) -> Iterator[str]:
    """What a module imports from this package, without the package's name."""
    package = module.split(".")[:-1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head, _, rest = alias.name.partition(".")
                if head == "django_ws_dispatch":
                    yield rest
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                name = ".".join([*package[: len(package) - node.level + 1], *name.split(".")])
                name = name.strip(".")
            elif name.partition(".")[0] == "django_ws_dispatch":
                name = name.partition(".")[2]
            else:
                continue
            for alias in node.names:
                yield name or alias.name


def names_in(module: str) -> list[str] | None:
    """The ``__all__`` of a module, ``None`` where it has none."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def is_public(module: str) -> bool:
    parts = module.split(".")
    return not any(part.startswith("_") and part != "__init__" for part in parts)


def has_code(module: str) -> bool:
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in tree(module).body
    )


def has_code_of_its_own(module: str) -> bool:
    """Whether it does more than to hand on what others define."""
    for node in tree(module).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            continue
        return True
    return False


def mirror_of(module: str) -> Path:
    """The file of the tests of a module; those of a package's ``__init__`` have its name."""
    *package, name = module.split(".")
    return TESTS.joinpath(*package, f"test_{package[-1] if name == '__init__' else name}.py")


def has_mirror(module: str) -> bool:
    mirror = mirror_of(module)
    return mirror.exists() and "def test_" in mirror.read_text(encoding="utf-8")


OWN = [module for module in modules() if has_code_of_its_own(module)]

# Django finds the command of such a module by the name of the class.
PUBLIC = [
    module
    for module in modules()
    if is_public(module) and has_code(module) and not module.startswith("management.commands.")
]


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in modules()} <= {*ROOMS, *OUTSIDE}


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_rooms_above_it(module: str) -> None:
    room = room_of(module)
    above = ROOMS[: ROOMS.index(room)] if room in ROOMS else [*ROOMS, *OUTSIDE]
    for name in imported(module):
        target = room_of(name)
        assert target in (*above, room, "__version__"), f"{module} imports {name}"


def imported_when_loaded(module: str) -> set[str]:
    """The modules that importing a module imports first: not for types only, not in functions."""
    package = module.split(".")[:-1]
    every = set(modules())
    found: set[str] = set()
    for node in tree(module).body:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        name = ".".join(filter(None, base))
        for alias in node.names:
            path = f"{name}.{alias.name}".strip(".")
            found |= {path, f"{path}.__init__"} & every or {name, f"{name}.__init__"}
    return found & every - {module}


def test_no_module_imports_itself_through_others() -> None:
    imports = {module: imported_when_loaded(module) for module in modules()}
    while free := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in free:
            del imports[module]
    assert not imports, "these import each other in a circle, or lead to it"


def test_the_landing_has_few_doors() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_says_what_is_public(module: str) -> None:
    names = names_in(module)
    assert names is not None, f"{module} has no __all__"
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", modules())
def test_nothing_is_asserted_and_nothing_is_printed(module: str) -> None:
    for node in ast.walk(tree(module)):
        # What a test calls asserts for it.
        if room_of(module) != "testing":
            assert not isinstance(node, ast.Assert), f"{module}, line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{module}, line {node.lineno}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_class_and_function_has_a_docstring(module: str) -> None:
    # What a module only hands on has its docstring where it is written.
    names = names_in(module) or ()
    for node in tree(module).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.name not in names or ast.get_docstring(node), f"{module}.{node.name}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree(module)), f"{module} has no docstring"


@pytest.mark.parametrize("module", modules())
def test_a_module_can_be_read_in_one_sitting(module: str) -> None:
    lines = len(source(module).splitlines())
    if module in LONG:
        assert lines > MOST_LINES, f"{module} is short: take it out of LONG"
    else:
        assert lines <= MOST_LINES, f"{module} has {lines} lines"


@pytest.mark.parametrize("module", OWN)
def test_a_module_has_its_tests_in_the_file_that_mirrors_it(module: str) -> None:
    where = mirror_of(module).relative_to(TESTS.parent)
    if module in UNMIRRORED:
        assert not has_mirror(module), f"{where} is there: take {module} out of UNMIRRORED"
    else:
        assert has_mirror(module), f"{module} has no tests in {where}"


def test_what_needs_no_mirror_is_a_module_that_would_have_one() -> None:
    assert UNMIRRORED.keys() <= set(OWN)


def test_mirrors_are_found_in_every_form() -> None:
    assert mirror_of("conf") == TESTS / "test_conf.py"
    assert mirror_of("auth.watch") == TESTS / "auth" / "test_watch.py"
    assert mirror_of("dispatcher.__init__") == TESTS / "dispatcher" / "test_dispatcher.py"
    assert mirror_of("brokers.redis.__init__") == TESTS / "brokers" / "redis" / "test_redis.py"
    assert not has_code_of_its_own("websockets.__init__")


def test_the_package_itself_has_nothing_but_its_version() -> None:
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    if ast.get_docstring(ast.Module(body, [])) is not None:
        body = body[1:]
    (version,) = body
    assert isinstance(version, ast.Assign)
    assert [ast.unparse(target) for target in version.targets] == ["__version__"]


def test_imports_are_found_in_every_form() -> None:
    assert set(imported("brokers.redis.broker")) >= {"brokers.base"}
    assert set(imported("auth.watch")) >= {"auth", "auth.keys", "lanes"}
    assert set(imported("handshake.denial")) >= {"exceptions", "servers"}
