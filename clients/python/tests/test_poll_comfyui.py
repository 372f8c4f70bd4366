"""The example pipeline, from submission to each end."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "examples")]

import poll_comfyui  # noqa: E402
from relay import Relay  # noqa: E402
from websocket_manager import ConnectionManager  # noqa: E402

WAITING = {"queue_running": [[1, "other"]], "queue_pending": [[3, "p"], [2, "before"]]}
RUNNING = {"queue_running": [[3, "p"]], "queue_pending": []}
EMPTY: Dict[str, Any] = {"queue_running": [], "queue_pending": []}
COMPLETED = {"p": {"status": {"status_str": "success", "messages": []}, "outputs": {
    "8": {"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}]},
    "9": {"images": [{"filename": "a.png", "subfolder": "shots", "type": "output"}]}}}}
FAILED = {"p": {"status": {"status_str": "error", "messages": [
    ["execution_error", {"node_type": "KSampler", "exception_message": "no memory\n"}]]}, "outputs": {}}}


class PollTest(unittest.TestCase):
    def follow(self, queues: List[Dict[str, Any]], history: Dict[str, Any]) -> Relay:
        """Runs the pipeline before a ComfyUI whose queue goes through these states, then has this history."""

        class Handler(BaseHTTPRequestHandler):
            def answer(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer({"prompt_id": "p", "number": 3})

            def do_GET(self) -> None:
                if self.path == "/queue":
                    self.answer(queues.pop(0) if queues else EMPTY)
                else:
                    self.answer({} if queues else history)

            def log_message(self, *_: Any) -> None:
                pass

        comfyui = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=comfyui.serve_forever, args=(0.01,), daemon=True).start()
        relay = Relay()
        self.addCleanup(relay.stop)
        self.addCleanup(comfyui.server_close)
        self.addCleanup(comfyui.shutdown)
        url = "http://127.0.0.1:{}".format(comfyui.server_address[1])
        manager = ConnectionManager(relay.url, token="")
        with mock.patch.multiple(poll_comfyui, POLL_INTERVAL=0.001, connection_manager=manager):
            asyncio.run(poll_comfyui.run(poll_comfyui.ComfyUi(url), {}, "a", 10))
        return relay

    def test_a_job_waits_runs_and_completes(self) -> None:
        relay = self.follow([WAITING, RUNNING], COMPLETED)
        self.assertEqual([status for status, _ in relay.states("a")], ["queued", "queued", "processing", "completed"])
        bodies = [body for _, _, body in relay.requests]
        self.assertEqual(bodies[1]["message"], "Queued, 2 ahead")
        self.assertEqual(bodies[-1]["output_path"], "shots/a.png")
        self.assertEqual(bodies[-1]["progress"], 100)

    def test_an_error_of_a_node_is_named(self) -> None:
        last = self.follow([RUNNING], FAILED).requests[-1][2]
        self.assertEqual((last["status"], last["error"]), ("failed", "KSampler: no memory"))

    def test_a_prompt_that_vanishes_fails(self) -> None:
        last = self.follow([RUNNING], {}).requests[-1][2]
        self.assertEqual((last["status"], last["error"]), ("failed", "ComfyUI has lost the prompt"))


if __name__ == "__main__":
    unittest.main()
