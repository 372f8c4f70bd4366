"""What a pipeline may rely on. Run: python3 -m unittest discover -s tests (in clients/python)."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, List
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from relay import Relay  # noqa: E402
from websocket_manager import FINAL_ATTEMPTS, RUNNING_ATTEMPTS, ConnectionManager  # noqa: E402

LOGGER = "websocket_manager"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ReportsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.relay = Relay()
        self.addCleanup(lambda: self.relay.stop())

    def manager(self, **more: Any) -> ConnectionManager:
        more.setdefault("first_pause", 0.01)
        more.setdefault("token", "")
        return ConnectionManager(more.pop("url", self.relay.url), **more)

    def test_the_call_of_the_old_pipeline_arrives(self) -> None:
        manager = self.manager()
        delivered = asyncio.run(manager.send_progress_update(
            job_id="shot-12", progress=40, status="processing", estimated_remaining=30,
            message="Frame 40", output_path="/out/a.mp4"))
        self.assertTrue(delivered)
        path, headers, body = self.relay.requests[0]
        self.assertEqual(path, "/api/anime/jobs/shot-12/progress")
        self.assertNotIn("Authorization", headers)
        self.assertEqual(body, {"progress": 40, "status": "processing", "estimated_remaining": 30,
                                "message": "Frame 40", "output_path": "/out/a.mp4"})

    def test_address_and_token_come_from_the_environment(self) -> None:
        address = self.relay.url[len("http://"):] + "/relay/"
        with mock.patch.dict(os.environ, {"COMFY_RELAY_URL": address, "RELAY_TOKEN": "a.b.c"}):
            asyncio.run(ConnectionManager().send_progress_update(job_id="a:b", progress=1, status="processing"))
        path, headers, _ = self.relay.requests[0]
        self.assertEqual(path, "/relay/api/anime/jobs/a%3Ab/progress")
        self.assertEqual(headers["Authorization"], "Bearer a.b.c")

    def test_values_that_the_relay_would_refuse_are_corrected(self) -> None:
        async def pipeline(manager: ConnectionManager) -> None:
            await manager.send_progress_update(job_id=7, progress=130, status="running", estimated_remaining=-3, user="x")
            await manager.send_progress_update(job_id=7, progress=float("nan"), status="odd",
                                               estimated_remaining=float("inf"), message=None)
            await manager.send_progress_update(job_id=7, progress=10 ** 400)
            await manager.send_progress_update(job_id=7, progress=None, status="ERROR", message="no memory")
            await manager.send_progress_update(job_id="b", status="done", output_path=Path("/out/b.png"))

        asyncio.run(pipeline(self.manager()))
        self.assertEqual([body for _, _, body in self.relay.requests], [
            {"progress": 100, "status": "processing", "estimated_remaining": 0},
            {"progress": 0, "status": "processing"},
            {"progress": 0, "status": "processing"},
            {"progress": 0, "status": "failed", "message": "no memory", "error": "no memory"},
            {"progress": 100, "status": "completed", "output_path": str(Path("/out/b.png"))},
        ])

    def test_nothing_is_sent_after_a_final_state(self) -> None:
        async def pipeline(manager: ConnectionManager) -> List[bool]:
            states = [("processing", 50), ("completed", 100), ("processing", 60), ("failed", 60)]
            return [await manager.send_progress_update(job_id="a", progress=share, status=status)
                    for status, share in states]

        self.assertEqual(asyncio.run(pipeline(self.manager())), [True, True, False, False])
        self.assertEqual(self.relay.states(), [("processing", 50), ("completed", 100)])

    def test_a_slow_relay_gets_the_newest_state_of_each_job_in_order(self) -> None:
        manager = self.manager()

        async def pipeline() -> None:
            self.relay.gate.clear()
            tasks = [asyncio.ensure_future(manager.send_progress_update(job_id="a", progress=1))]
            await asyncio.get_running_loop().run_in_executor(None, self.relay.wait_for, 1)
            for share in (2, 3, 4):
                tasks.append(asyncio.ensure_future(manager.send_progress_update(job_id="a", progress=share)))
            tasks.append(asyncio.ensure_future(manager.send_progress_update(job_id="a", status="completed")))
            # Another job does not wait for the first.
            tasks.append(asyncio.ensure_future(manager.send_progress_update(job_id="b", progress=9)))
            await asyncio.get_running_loop().run_in_executor(None, self.relay.wait_for, 2)
            self.assertEqual(self.relay.states("b"), [("processing", 9)])
            self.assertEqual(self.relay.states("a"), [("processing", 1)])
            self.relay.gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(pipeline())
        self.assertEqual(self.relay.states("a"), [("processing", 1), ("completed", 100)])

    def test_an_absent_relay_neither_raises_nor_holds_the_pipeline_up(self) -> None:
        manager = self.manager(url="http://127.0.0.1:{}".format(free_port()), first_pause=30)

        async def pipeline() -> List[bool]:
            return [await manager.send_progress_update(job_id="a", progress=share) for share in range(20)]

        begun = time.monotonic()
        with self.assertLogs(LOGGER, "WARNING") as logs:
            self.assertEqual(asyncio.run(pipeline()), [False] * 20)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(len(logs.output), 1, logs.output)
        self.assertIn("COMFY_RELAY_URL", logs.output[0])

    def test_the_end_of_a_job_survives_a_restart_of_the_relay(self) -> None:
        port = self.relay.port
        self.relay.stop()
        manager = self.manager(url="http://127.0.0.1:{}".format(port), first_pause=0.05)

        async def pipeline() -> bool:
            end = asyncio.ensure_future(manager.send_progress_update(job_id="a", status="completed"))
            while not manager._failures:
                await asyncio.sleep(0)
            self.relay = Relay(port=port)
            return await end

        with self.assertLogs(LOGGER, "INFO") as logs:
            self.assertTrue(asyncio.run(pipeline()))
        self.assertEqual(self.relay.states(), [("completed", 100)])
        self.assertEqual([record.levelname for record in logs.records], ["WARNING", "INFO"])

    def test_tries_are_bounded_and_the_end_may_be_reported_again(self) -> None:
        manager = self.manager(first_pause=0.001)
        with mock.patch("websocket_manager.LONGEST_PAUSE", 0.001), self.assertLogs(LOGGER, "ERROR"):
            self.relay.answers = [503] * FINAL_ATTEMPTS
            self.assertFalse(asyncio.run(manager.send_progress_update(job_id="a", status="completed")))
            self.assertEqual(len(self.relay.requests), FINAL_ATTEMPTS)
            self.assertTrue(asyncio.run(manager.send_progress_update(job_id="a", status="completed")))
        self.relay.requests.clear()
        self.relay.answers = [500] * 100
        with self.assertLogs(LOGGER, "WARNING"):
            asyncio.run(manager.send_progress_update(job_id="b", progress=1))
            self.assertTrue(manager.flush(10))
        self.assertEqual(len(self.relay.requests), RUNNING_ATTEMPTS)

    def test_many_ends_give_up_together(self) -> None:
        manager = self.manager(url="http://127.0.0.1:{}".format(free_port()))

        async def pipeline() -> List[bool]:
            return await asyncio.gather(*(
                manager.send_progress_update(job_id=str(number), status="completed") for number in range(200)))

        pauses = FINAL_ATTEMPTS * 0.05
        begun = time.monotonic()
        with mock.patch("websocket_manager.LONGEST_PAUSE", 0.05), self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual(set(asyncio.run(pipeline())), {False})
        # In turn they would take 200 times as long; a busy machine gets thirty times.
        self.assertLess(time.monotonic() - begun, 30 * pauses)

    def test_a_refusal_is_logged_once_and_not_repeated(self) -> None:
        manager = self.manager()
        self.relay.answers = [401, 401, 400, 409]
        self.relay.codes = {409: "not_reportable"}

        async def pipeline() -> List[bool]:
            return [await manager.send_progress_update(job_id=job_id, progress=1) for job_id in ("a", "a", "b", "c")]

        with self.assertLogs(LOGGER, "INFO") as logs:
            self.assertEqual(asyncio.run(pipeline()), [False] * 4)
        self.assertEqual(len(self.relay.requests), 4)
        self.assertEqual(len(logs.output), 3, logs.output)
        self.assertIn("RELAY_TOKEN", logs.output[0])
        self.assertIn("a reason", logs.output[1])
        self.assertIn("follows job c itself", logs.output[2])

    def test_a_report_on_a_job_that_has_ended_is_a_warning_and_its_lost_end_an_error(self) -> None:
        manager = self.manager()
        self.relay.answers = [409, 409]
        self.relay.codes = {409: "job_ended"}

        async def pipeline() -> None:
            await manager.send_progress_update(job_id="a", progress=1)
            await manager.send_progress_update(job_id="b", progress=100, status="completed")

        with self.assertLogs(LOGGER, "INFO") as logs:
            asyncio.run(pipeline())
        self.assertIn("WARNING", logs.output[0])
        self.assertIn("takes no more reports on job a, 409: a reason", logs.output[0])
        self.assertIn("ERROR", logs.output[1])
        self.assertIn("refuses a report on job b", logs.output[1])

    def test_a_relay_that_never_answers_counts_as_absent(self) -> None:
        manager = self.manager(timeout=0.05, first_pause=30)
        self.relay.gate.clear()
        with self.assertLogs(LOGGER, "WARNING") as logs:
            self.assertFalse(asyncio.run(manager.send_progress_update(job_id="a", progress=1)))
        self.assertIn("no answer within 0.05 s", logs.output[0])

    def test_a_wrong_address_or_token_is_logged_and_not_raised(self) -> None:
        for more in ({"url": "ftp://relay"}, {"url": "http://[relay"}, {"token": "a\nb"}):
            with self.subTest(more), self.assertLogs(LOGGER, "ERROR"):
                manager = self.manager(**more)
                self.assertFalse(asyncio.run(manager.send_progress_update(job_id="a", status="completed")))

    def test_calls_of_the_old_manager_are_accepted(self) -> None:
        manager = self.manager()

        async def server() -> None:
            self.assertIsNone(await manager.connect(object(), "a", user_info={"name": "x"}))
            manager.disconnect(object(), "a")
            await manager.disconnect(object())
            await manager.send_personal_message("hello", object())
            await manager.broadcast("a", {"type": "progress", "progress": 5, "status": "processing"})
            await manager.broadcast_to_job({"type": "progress", "job_id": "a", "progress": 6, "status": "processing",
                                            "timestamp": "2026-01-01T00:00:00Z"})
            await manager.broadcast('{"type": "progress", "job_id": "a", "progress": 7, "status": "processing"}')
            await manager.broadcast("good morning")
            await manager.broadcast({"type": "system_status"})
            await manager.broadcast("a", {1: 2, "self": 3, "type": "odd"})
            await manager.broadcast()
            await manager.broadcast({"type": "error", "job_id": "a", "error": "no memory"})

        asyncio.run(server())
        self.assertEqual(self.relay.states("a"), [("processing", 5), ("processing", 6), ("processing", 7), ("failed", 0)])
        self.assertEqual(self.relay.requests[-1][2]["error"], "no memory")
        self.assertEqual(manager.get_connection_stats()["total_connections"], 0)

    def test_many_threads_with_loops_of_their_own(self) -> None:
        manager = self.manager()

        def pipeline(job_id: str) -> None:
            async def report() -> None:
                for share in range(0, 100, 10):
                    await manager.send_progress_update(job_id=job_id, progress=share)
                await manager.send_progress_update(job_id=job_id, status="completed")
            asyncio.run(report())

        threads = [threading.Thread(target=pipeline, args=("job-{}".format(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = [("processing", share) for share in range(0, 100, 10)] + [("completed", 100)]
        for number in range(8):
            self.assertEqual(self.relay.states("job-{}".format(number)), expected)

    def test_a_program_that_ends_at_once_still_delivers(self) -> None:
        program = ("import asyncio\n"
                   "from websocket_manager import connection_manager as m\n"
                   "async def main():\n"
                   "    asyncio.ensure_future(m.send_progress_update(job_id='a', status='completed'))\n"
                   "    await asyncio.sleep(0)\n"
                   "asyncio.run(main())\n")
        environment = {**os.environ, "COMFY_RELAY_URL": self.relay.url, "PYTHONPATH": str(HERE.parent)}
        subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=30)
        self.assertEqual(self.relay.states(), [("completed", 100)])

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_forked_child_reports_as_well(self) -> None:
        manager = self.manager()
        asyncio.run(manager.send_progress_update(job_id="parent", progress=1))
        child = os.fork()
        if child == 0:
            delivered = asyncio.run(manager.send_progress_update(job_id="child", progress=2))
            os._exit(0 if delivered else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(self.relay.states("child"), [("processing", 2)])


if __name__ == "__main__":
    unittest.main()
