"""An HTTP server on a thread of this process, for tests."""

import contextlib
import threading
from http.server import ThreadingHTTPServer


@contextlib.contextmanager
def listening(handler):
    """Serve on a free port of this machine. Yields the address, e.g. http://127.0.0.1:41234."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
