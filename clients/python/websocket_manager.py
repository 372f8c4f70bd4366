"""Reports the progress of a pipeline's jobs to comfy-relay.

A drop-in for the module of the same name that used to serve the sockets itself. A pipeline keeps its calls::

    from websocket_manager import connection_manager

    await connection_manager.send_progress_update(
        job_id="shot-12", progress=40, status="processing",
        estimated_remaining=30, message="Frame 40", output_path=None)

The web pages connect to the relay: ws://127.0.0.1:8328/ws/shot-12.

Environment: COMFY_RELAY_URL (or RELAY_URL), the relay's address, http://127.0.0.1:8328 by default; RELAY_TOKEN,
where the relay asks for tokens; RELAY_CA_FILE, a PEM file with further certificate authorities.

No call raises because of the relay: a report that cannot be delivered is retried, logged once and given up.
Reports of one job arrive in their order. While the relay does not answer, only the newest report of each job is
kept. After a final report (completed, failed, cancelled) nothing more is sent for that job.

Python 3.8 or newer, standard library only.
"""

from __future__ import annotations

import asyncio
import atexit
import http.client
import json
import logging
import math
import os
import random
import socket
import ssl
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, InvalidStateError
from typing import Any, Dict, Generator, NamedTuple, Optional, Set
from urllib.parse import quote, urlsplit

__all__ = ["ConnectionManager", "connection_manager"]
__version__ = "0.1.0"

DEFAULT_URL = "http://127.0.0.1:8328"
FINAL = frozenset({"completed", "failed", "cancelled"})

# Words that pipelines use, beside the relay's own; any other one is "processing".
ALIASES = {
    "pending": "queued", "waiting": "queued",
    "running": "processing", "starting": "processing", "generating": "processing", "in_progress": "processing",
    "complete": "completed", "done": "completed", "finished": "completed", "success": "completed",
    "error": "failed", "canceled": "cancelled", "interrupted": "cancelled",
}
# Tries for a running state: a newer one comes soon. For a final state: a restart of the relay fits in.
RUNNING_ATTEMPTS = 3
FINAL_ATTEMPTS = 8
# Seconds before the second try; doubled for each further one.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 4.0
# Seconds for one request. The relay answers a first or final report within two, also where its database is away.
REQUEST_TIMEOUT = 5.0
# Requests at a time: the answer for one job must not hold up another.
MAX_WORKERS = 4
# Ids of ended jobs that are remembered, and jobs whose refusal has been logged.
MAX_REMEMBERED = 10_000
# Seconds that a program that ends waits for its last reports.
EXIT_TIMEOUT = 5.0

log = logging.getLogger(__name__)


class _Server(NamedTuple):
    """The relay's address and credentials."""

    host: str
    port: int
    path: str
    token: str
    tls: Optional[ssl.SSLContext]

    @classmethod
    def read(cls, url: Optional[str], token: Optional[str]) -> "_Server":
        url = url or os.environ.get("COMFY_RELAY_URL") or os.environ.get("RELAY_URL") or DEFAULT_URL
        url = url.strip()
        parts = urlsplit(url if "://" in url else "http://" + url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError("COMFY_RELAY_URL must be http://HOST:PORT or https://HOST, not {!r}".format(url))
        encrypted = parts.scheme in ("https", "wss")
        tls = ssl.create_default_context() if encrypted else None
        authorities = os.environ.get("RELAY_CA_FILE")
        if tls is not None and authorities:
            tls.load_verify_locations(authorities)
        token = os.environ.get("RELAY_TOKEN", "") if token is None else token
        port = parts.port or (443 if encrypted else 80)
        return cls(parts.hostname, port, parts.path.rstrip("/"), token.strip(), tls)

    def __str__(self) -> str:
        host = "[{}]".format(self.host) if ":" in self.host else self.host
        return "{}://{}:{}{}".format("https" if self.tls else "http", host, self.port, self.path)

    def post(self, job_id: str, body: bytes, timeout: float) -> "_Answer":
        """Sends one report. Raises OSError or HTTPException where there is no answer."""
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)
        headers = {"Content-Type": "application/json", "User-Agent": "websocket_manager/" + __version__}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        path = "{}/api/anime/jobs/{}/progress".format(self.path, quote(job_id, safe=""))
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            text = response.read(65536).decode("utf-8", "replace")
            return _Answer(response.status, text)
        finally:
            connection.close()


class _Answer(NamedTuple):
    status: int
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def worth_a_retry(self) -> bool:
        return self.status in (408, 425, 429) or self.status >= 500

    @property
    def code(self) -> str:
        try:
            return str(json.loads(self.text)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""

    def explain(self) -> str:
        try:
            return "{}: {}".format(self.status, json.loads(self.text)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return "status {}".format(self.status)


class _Report:
    """One state of a job on its way to the relay."""

    __slots__ = ("job_id", "final", "body", "attempts", "outcome")

    def __init__(self, job_id: str, fields: Dict[str, Any]) -> None:
        self.job_id = job_id
        self.final = fields["status"] in FINAL
        self.body = json.dumps(fields).encode()
        self.attempts = 0
        self.outcome: "Future[bool]" = Future()

    @property
    def exhausted(self) -> bool:
        return self.attempts >= (FINAL_ATTEMPTS if self.final else RUNNING_ATTEMPTS)

    def resolve(self, delivered: bool) -> None:
        try:
            self.outcome.set_result(delivered)
        except InvalidStateError:
            pass  # Resolved before, or its caller was cancelled.


class _Accepted:
    """The result of a call that does nothing here; it may be awaited or not."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class ConnectionManager:
    """Delivers reports to one relay, from any thread and any event loop."""

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        *,
        timeout: float = REQUEST_TIMEOUT,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """`url` and `token` come from the environment where they are left out."""
        self._url = url
        self._token = token
        self._timeout = timeout
        self._first_pause = first_pause
        self._server: Optional[_Server] = None
        self._start_empty()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_empty)
        atexit.register(self._at_exit)

    def _start_empty(self) -> None:
        """Also after a fork: the child has no worker, and must not send what its parent sends."""
        self._changed = threading.Condition()
        self._pending: "OrderedDict[str, _Report]" = OrderedDict()
        self._sending: Set[str] = set()
        self._ended: "OrderedDict[str, None]" = OrderedDict()
        self._logged: "OrderedDict[str, None]" = OrderedDict()
        self._workers = 0
        self._failures = 0
        self._paused_until = 0.0

    # --- Reports -----------------------------------------------------------------------------------

    async def send_progress_update(
        self,
        job_id: Any,
        progress: Optional[float] = None,
        status: str = "processing",
        estimated_remaining: Optional[float] = None,
        message: Optional[str] = None,
        output_path: Any = None,
        error: Optional[str] = None,
        **unknown: Any,
    ) -> bool:
        """Reports one state of a job; returns whether the relay has taken it.

        A running state is tried once before this returns, and at most twice more afterwards. A final state is
        tried until the relay takes it, or for about half a minute. `error` is what went wrong, on `failed`;
        left out, it is `message`. Other arguments are ignored.
        """
        try:
            report = self._add(str(job_id), _fields(progress, status, estimated_remaining, message, output_path, error))
        except Exception:  # A mistake here must not end the pipeline.
            self._log_once(logging.ERROR, "internal", "cannot report on job %s", job_id, exc_info=True)
            return False
        return False if report is None else await asyncio.wrap_future(report.outcome)

    async def send_error(self, job_id: Any, error: str = "", **_unknown: Any) -> bool:
        """Reports that a job has failed."""
        return await self.send_progress_update(job_id=job_id, status="failed", error=error, message=error)

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Blocks until nothing waits to be sent, for at most `timeout` seconds; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    def _at_exit(self) -> None:
        """Waits for the last reports; while the relay is away, only for the ends of jobs."""
        def delivered() -> bool:
            waiting = [report for report in self._pending.values() if report.final or not self._failures]
            return not waiting and not self._sending

        with self._changed:
            self._changed.wait_for(delivered, EXIT_TIMEOUT)

    # --- What the module did when it served the sockets itself ------------------------------------

    def connect(self, *_arguments: Any, **_named: Any) -> Any:
        """Accepted, and does nothing: clients connect to the relay. May be awaited."""
        self._log_once(logging.INFO, "connect", "clients connect to the relay now: ws(s)://RELAY/ws/{job_id}")
        return _Accepted()

    disconnect = connect
    send_personal_message = connect
    start = stop = connect

    async def broadcast(self, *arguments: Any, **named: Any) -> bool:
        """Sends a `progress` or `error` message on as a report. Others are accepted and dropped.

        Takes the message (a dict, or its JSON) and the job id in any order; the id may be in the message.
        """
        message: Dict[str, Any] = {}
        job_id = named.get("job_id")
        for value in (*arguments, *named.values()):
            if isinstance(value, (str, bytes)) and value[:1] in ("{", b"{"):
                try:
                    value = json.loads(value)
                except ValueError:
                    continue
            if isinstance(value, dict):
                message = value
            elif job_id is None and isinstance(value, (str, int)):
                job_id = value
        job_id = message.get("job_id") if job_id is None else job_id
        kind = message.get("type", "progress")
        if not message or job_id is None or kind not in ("progress", "error"):
            return False
        if kind == "error":
            return await self.send_error(job_id, str(message.get("error", "")))
        fields = ("progress", "status", "estimated_remaining", "message", "output_path", "error")
        return await self.send_progress_update(job_id, **{name: message[name] for name in fields if name in message})

    broadcast_to_job = broadcast
    broadcast_progress = broadcast
    send_message = broadcast

    def get_connection_stats(self) -> Dict[str, Any]:
        """The shape that it had. The relay knows who is connected: GET /api/anime/websocket/status."""
        return {"total_connections": 0, "jobs_with_connections": 0, "connection_details": {}}

    # --- Delivery ----------------------------------------------------------------------------------

    def _add(self, job_id: str, fields: Dict[str, Any]) -> Optional[_Report]:
        """Puts a report up for delivery; None if the job has ended."""
        with self._changed:
            if job_id in self._ended:
                log.debug("job %s has ended: its state %s is not sent", job_id, fields["status"])
                return None
            report = _Report(job_id, fields)
            if report.final:
                _remember(self._ended, job_id, None)
            older = self._pending.pop(job_id, None)
            if older is not None:
                older.resolve(False)
            self._pending[job_id] = report
            if self._failures and not report.final:
                report.resolve(False)  # The relay is away: the pipeline need not wait for the next try.
            if self._workers < min(MAX_WORKERS, len(self._pending) + len(self._sending)):
                threading.Thread(target=self._work, name="websocket_manager", daemon=True).start()
                self._workers += 1
            self._changed.notify_all()
        return report

    def _work(self) -> None:
        while True:
            report = self._next()
            report.attempts += 1
            try:
                if self._server is None:
                    self._server = _Server.read(self._url, self._token)
                answer = self._server.post(report.job_id, report.body, self._timeout)
            except (OSError, http.client.HTTPException) as error:
                late = "no answer within {:g} s".format(self._timeout)
                self._settle(report, None, late if isinstance(error, socket.timeout) else repr(error))
            except Exception as error:  # A wrong address or token: no try can succeed.
                self._log_once(logging.ERROR, repr(error), "cannot report to the relay: %s", error)
                self._settle(report, None, None)
            else:
                self._settle(report, answer, answer.explain())

    def _next(self) -> _Report:
        """Waits for a report of a job that no other worker is sending, and for the end of the pause."""
        with self._changed:
            while True:
                job_id = next((job_id for job_id in self._pending if job_id not in self._sending), None)
                pause = self._paused_until - time.monotonic()
                if job_id is not None and pause <= 0:
                    self._sending.add(job_id)
                    return self._pending.pop(job_id)
                self._changed.wait(pause if job_id is not None else None)

    def _settle(self, report: _Report, answer: Optional[_Answer], problem: Optional[str]) -> None:
        """Ends or repeats a try. `problem` is None where a further try cannot succeed."""
        with self._changed:
            self._sending.discard(report.job_id)
            if problem is None:
                self._give_up(report)
            elif answer is None or answer.worth_a_retry:
                self._failed(report, problem)
            else:
                if self._failures:
                    log.info("the relay answers again")
                    self._failures, self._paused_until = 0, 0.0
                if not answer.accepted:
                    self._refused(report, answer)
                report.resolve(answer.accepted)
            self._changed.notify_all()

    def _failed(self, report: _Report, problem: str) -> None:
        """Retries later. The first failure after a pause counts for all that waits: they end together, not in turn."""
        if not self._failures:
            log.warning("cannot report to the relay at %s: %s; trying again (address: COMFY_RELAY_URL)",
                        self._server, problem)
        now = time.monotonic()
        if now >= self._paused_until:
            # Jitter: the pipelines of a restarted relay do not all come back at once.
            pause = min(LONGEST_PAUSE, self._first_pause * 2 ** min(self._failures, 16)) * random.uniform(0.8, 1.2)
            self._paused_until = now + pause
            self._failures += 1
            for other in list(self._pending.values()):
                other.attempts += 1
                if other.exhausted:
                    self._give_up(self._pending.pop(other.job_id))
        if not report.final:
            report.resolve(False)
        if report.exhausted or report.job_id in self._pending:
            self._give_up(report)
        else:
            self._pending[report.job_id] = report
            self._pending.move_to_end(report.job_id, last=False)

    def _give_up(self, report: _Report) -> None:
        if report.final:
            self._ended.pop(report.job_id, None)
            log.error("the end of job %s could not be reported", report.job_id)
        report.resolve(False)

    def _refused(self, report: _Report, answer: _Answer) -> None:
        if report.final:
            self._ended.pop(report.job_id, None)
        level, key = logging.ERROR, "{} {}".format(answer.status, report.job_id)
        if answer.code == "not_reportable":
            self._log_once(logging.INFO, key, "the relay follows job %s itself and needs no reports", report.job_id)
        elif answer.code == "job_ended" and not report.final:
            self._log_once(logging.WARNING, key, "the relay takes no more reports on job %s, %s",
                           report.job_id, answer.explain())
        elif answer.status in (401, 403):
            why = answer.explain()
            self._log_once(level, why, "the relay refuses reports, %s (token: RELAY_TOKEN, with scope progress)", why)
        else:
            self._log_once(level, key, "the relay refuses a report on job %s, %s", report.job_id, answer.explain())

    def _log_once(self, level: int, key: str, text: str, *arguments: Any, exc_info: bool = False) -> None:
        if key not in self._logged:
            _remember(self._logged, key, None)
            log.log(level, text, *arguments, exc_info=exc_info)


def _remember(known: "OrderedDict[str, Any]", key: str, value: Any) -> None:
    known.pop(key, None)
    known[key] = value
    if len(known) > MAX_REMEMBERED:
        known.popitem(last=False)


def _fields(
    progress: Any, status: Any, estimated_remaining: Any, message: Any, output_path: Any, error: Any
) -> Dict[str, Any]:
    """The body of a report. Values that the relay would refuse are corrected or left out."""
    status = str(getattr(status, "value", status)).strip().lower()
    status = ALIASES.get(status, status)
    if status not in FINAL and status != "queued":
        status = "processing"
    # What subscribers see never falls: 0 is right where it is not known.
    share = 100 if status == "completed" else min(100, _number(progress) or 0)
    fields: Dict[str, Any] = {"status": status, "progress": share}
    remaining = _number(estimated_remaining)
    if remaining is not None:
        fields["estimated_remaining"] = remaining
    if status == "failed" and not error:
        error = message
    for name, value in (("message", message), ("output_path", output_path), ("error", error)):
        if value:
            fields[name] = str(value)
    return fields


def _number(value: Any) -> Optional[float]:
    """A finite number that is not negative; None for what is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


connection_manager = ConnectionManager()
