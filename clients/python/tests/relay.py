"""A relay for the tests: a real HTTP server that keeps every report, and gives the answers that a test asks for."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional, Tuple


class Relay:
    """Listens on a free loopback port. `answers` are the statuses of the next answers; then 202. `codes` are those of errors."""

    def __init__(self, answers: Tuple[int, ...] = (), port: int = 0) -> None:
        self.codes: Dict[int, str] = {}
        self.answers = list(answers)
        self.requests: List[Tuple[str, Dict[str, str], Dict[str, Any]]] = []
        self.received = threading.Condition()
        # Cleared, it holds every answer back.
        self.gate = threading.Event()
        self.gate.set()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with relay.received:
                    relay.requests.append((self.path, dict(self.headers), body))
                    status = relay.answers.pop(0) if relay.answers else 202
                    relay.received.notify_all()
                relay.gate.wait(10)
                text = {"error": {"code": relay.codes.get(status, "x"), "message": "a reason"}} if status >= 400 else {"job_id": "x"}
                answer = json.dumps(text).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # A client that gave up waiting.

        self.server = Server(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:{}".format(self.port)
        # The server looks for the wish to stop once per interval.
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def wait_for(self, count: int, timeout: float = 10) -> bool:
        """Waits until this many reports have been received."""
        with self.received:
            return self.received.wait_for(lambda: len(self.requests) >= count, timeout)

    def states(self, job_id: Optional[str] = None) -> List[Tuple[str, float]]:
        """Status and progress of the reports received, of all jobs or of one."""
        suffix = "/{}/progress".format(job_id) if job_id else ""
        return [(body["status"], body["progress"]) for path, _, body in self.requests if path.endswith(suffix)]
