import gc
import logging
import signal
from importlib.metadata import entry_points

# Where the package is not installed pytest does not find its plugin.
if not any(entry.name == "django_ws_dispatch" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["django_ws_dispatch.testing.pytest_plugin"]


def _is_no_timing(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Executing ")


# In development mode asyncio says which callback took over 0.1 s: that is the machine's affair.
logging.getLogger("asyncio").addFilter(_is_no_timing)

# A shell starts what goes on in its background with Ctrl-C ignored, and that is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of each collection of garbage: tests ask for many."""
    gc.collect()
    gc.freeze()
