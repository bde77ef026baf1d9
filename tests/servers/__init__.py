"""One suite over uvicorn, hypercorn, daphne and granian: ``tox -e servers``.

``expectations.py`` is the table of what each of them can do; every test asserts its column.
"""
