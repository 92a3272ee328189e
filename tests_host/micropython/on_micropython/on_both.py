"""What the scripts here share that run on both runtimes."""

try:
    from micropython import heap_lock, heap_unlock
except ImportError:  # CPython

    def heap_lock():
        pass

    heap_unlock = heap_lock


def feed(listener, path, buffer, drain):
    """Have the listener hear the file in pieces of the buffer; drain(listener) takes its events."""
    with open(path, "rb") as stream:
        while True:
            n = stream.readinto(buffer)
            if not n:
                break
            at = 0
            while at < n:
                at += listener.feed(buffer, at, n)
                drain(listener)
    listener.finish()
    drain(listener)
