"""What lies directly in the package."""

import ast
import inspect

import pytest

from django_ws_dispatch import testing


def test_every_name_is_there_and_no_other():
    assert all(getattr(testing, name).__name__ == name for name in testing.__all__)
    with pytest.raises(ImportError, match="WebsocketClient"):
        from django_ws_dispatch.testing import WebsocketClient  # noqa: F401


def test_a_type_checker_sees_the_names_and_nothing_that_has_any_other():
    tree = ast.parse(inspect.getsource(testing))
    assert "__getattr__" not in [getattr(node, "name", None) for node in tree.body]
