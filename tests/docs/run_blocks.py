"""Runs in a project made of a page: imports its modules, executes its loose blocks, its tests.

    DJANGO_SETTINGS_MODULE=... python run_blocks.py MODULE... < JSON

The JSON is a list of ``[line, code]``: the page's blocks without a file, then what the test adds.
"""

import ast
import asyncio
import importlib
import inspect
import json
import os
import sys


def execute(name, code, namespace):
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def main(modules, pieces):
    import django

    django.setup()

    from django.core.management import call_command
    from django.test.runner import DiscoverRunner

    call_command("check", fail_level="WARNING")
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        for module in modules:
            importlib.import_module(module)
        namespace = {"__name__": "page"}
        for line, code in pieces:
            execute(f"line {line}", code, namespace)
        # What begins with test_ is pytest's.
        runner.pattern = "tests*.py"
        suite = runner.build_suite(["."])
        result = runner.run_suite(suite)
    finally:
        runner.teardown_databases(databases)
        runner.teardown_test_environment()
    sys.stdout.write(f"tests: {result.testsRun}\n")
    return runner.suite_result(suite, result)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.exit(main(sys.argv[1:], json.load(sys.stdin)))
