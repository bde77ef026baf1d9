"""The system checks: every mistake, once, with its remedy, and never a crash."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from django_ws_dispatch import checks, groups
from django_ws_dispatch.asgi import get_asgi_application
from tests.checks.sites import WRONG, deployment, found, ids


def test_a_right_site_has_nothing_to_say():
    assert found() == []


def test_each_id_in_the_code_is_in_the_table_once():
    table = re.findall(r"^ws_dispatch\.([EW]\d{3})", checks.__doc__ or "", re.MULTILINE)
    assert len(table) == len(set(table))
    files = Path(checks.__file__).parent.glob("*.py")
    code = "".join(file.read_text().partition('"""\n\nfrom')[2] for file in files)
    assert set(table) == set(re.findall(r'"(?:ws_dispatch\.)?([EW]\d{3})"', code))


def test_all_wrong_settings_are_reported_at_once():
    messages = found(**{name: value for name, (_, value) in WRONG.items()})
    assert sorted(ids(messages)) == sorted(number for number, _ in WRONG.values())


def test_manage_py_check_reports_what_is_wrong_and_does_not_crash():
    wrong = {name: value for name, (_, value) in WRONG.items()}
    with override_settings(**wrong), pytest.raises(SystemCheckError) as caught:
        call_command("check", deploy=True, stdout=StringIO(), stderr=StringIO())
    for number, _ in WRONG.values():
        assert f"ws_dispatch.{number}" in str(caught.value)


def test_a_check_does_not_make_the_process_one_that_serves(monkeypatch):
    monkeypatch.setattr(groups.group, "unheard", True)
    assert found() == []
    get_asgi_application()
    assert groups.group.unheard


def test_the_checks_are_registered_with_the_app():
    with override_settings(WEBSOCKET_SYNC_THREADS=0), pytest.raises(SystemCheckError, match="E010"):
        call_command("check", tags=["websockets"], stdout=StringIO(), stderr=StringIO())


def test_deployment_leaves_wrong_settings_to_the_other_check():
    assert deployment(**{name: value for name, (_, value) in WRONG.items()}) == []
    broken = {"default": {"BACKEND": "no.such.Broker"}}
    assert deployment(WEBSOCKET_BROKERS=broken) == []
