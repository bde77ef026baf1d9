"""What the pages list by hand is what there is."""

from __future__ import annotations

import re

import pytest

from django_ws_dispatch.codes import CloseCode
from django_ws_dispatch.conf import SETTINGS

from .pages import DOCS
from .test_docstrings import PUBLIC

pytestmark = pytest.mark.once


def test_every_setting_has_a_section_and_every_section_is_a_setting() -> None:
    page = (DOCS / "reference" / "settings.md").read_text()
    assert re.findall(r"^## `(\w+)`$", page, re.MULTILINE) == list(SETTINGS.values())


def test_every_public_module_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    missing = [name for name in PUBLIC if f":: django_ws_dispatch.{name}" not in text]
    assert not missing


def test_every_close_code_is_in_the_table() -> None:
    page = (DOCS / "howto" / "deploys.md").read_text()
    table = dict(re.findall(r"^\| (\d{4}) \| `(\w+)` \|", page, re.MULTILINE))
    assert table == {str(int(code)): code.name for code in CloseCode}
