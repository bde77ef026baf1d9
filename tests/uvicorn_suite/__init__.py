"""uvicorn's own tests of a WebSocket protocol class, on this package's."""
