"""A module of handlers whose import raises."""

1 / 0  # noqa: B018
