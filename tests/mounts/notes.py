import os


def note(line: object) -> None:
    """Tell the test, whatever happens to this process next."""
    descriptor = os.open(os.environ["LIVE_NOTES"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
