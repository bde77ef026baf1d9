"""A small site that shows what django-ws-dispatch does. Not for production: its key is public."""
