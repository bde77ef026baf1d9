"""What the servers do by themselves, line by line of the second table."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import pytest

from .expectations import BARE, VERSIONS
from .probes import PROBES, bare, measure

pytestmark = [pytest.mark.live, pytest.mark.servers]


@pytest.fixture(scope="session")
def measured(expected):
    with bare(expected.name) as server:
        return asyncio.run(measure(server))


def test_the_versions_are_those_that_the_page_names(expected):
    package = expected.package or expected.name
    major, minor, *_ = version(package).split(".")
    assert f"{major}.{minor}" == VERSIONS[package], (
        "where the other tests pass, correct VERSIONS and run python -m tests.servers.table"
    )


def test_every_line_of_the_table_is_measured():
    assert PROBES.keys() == BARE.keys()


@pytest.mark.parametrize("line", BARE)
def test_a_server_by_itself_does_what_the_page_says(measured, expected, line):
    seen = measured[line]
    if isinstance(seen, BaseException):
        raise seen
    assert seen == getattr(BARE[line], expected.name)
