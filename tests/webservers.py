"""Web servers for tests: each runs in a thread."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer:
    """A web server on a free port of the loopback interface.

    :param handler: its do_GET() or do_POST() answers the requests. It may wait for ``may_answer``.
    :param target: path and query of its ``url``.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], target: str = "") -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()

        class Quiet(handler):  # type: ignore[misc,valid-type]  # a base class that is an argument
            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{target}"

    def stop(self) -> None:
        """Close its port. A second call does nothing."""
        if self._thread.is_alive():
            self.may_answer.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class PostReceiver(WebServer):
    """A web server that keeps what is posted to it, as (headers, body), and answers with *status*."""

    def __init__(self, status: int, target: str) -> None:
        self.status = status
        self.posts: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((dict(self.headers), body))
                receiver.may_answer.wait(10)
                self.send_response(receiver.status)
                self.end_headers()

        super().__init__(Handler, target)
