"""Fixtures for pytest, registered through the entry point ``pytest11``."""
