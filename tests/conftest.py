from importlib.metadata import entry_points

# Where the package is not installed pytest does not find its plugin.
if not any(entry.name == "django_ws_dispatch" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["django_ws_dispatch.testing.pytest_plugin"]
