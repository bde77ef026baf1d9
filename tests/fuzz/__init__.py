"""Hypothesis over what comes from outside: scopes, events, settings, frames.

The small profile runs with every other test. By hand, in under half an hour:
``WS_DISPATCH_FUZZ=large python -m pytest tests/fuzz``.
"""
