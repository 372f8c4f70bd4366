"""Submits jobs to comfy-relay, follows and cancels them::

    from comfy_relay import follow, submit

    job = await submit("txt2img", params={"3.seed": 7})
    async for state in follow(job["job_id"]):
        print(state["progress"], state["message"], state["estimated_remaining"])

Environment: COMFY_RELAY_URL (or RELAY_URL), the relay's address, http://127.0.0.1:8328 by default; RELAY_TOKEN,
where the relay asks for tokens; RELAY_CA_FILE, a PEM file with further certificate authorities.

Python 3.8 or newer, and the package websockets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any, Callable, Optional, TypedDict, Union
from urllib.parse import quote, urlsplit

import websockets
from websockets.asyncio.client import connect

__all__ = ["Relay", "RelayError", "State", "Submitted", "cancel", "follow", "submit"]

_log = logging.getLogger(__name__)

DEFAULT_URL = "http://127.0.0.1:8328"
FINAL = frozenset({"completed", "failed", "cancelled"})
# The relay has sockets of these names, which follow more than one job.
RESERVED = frozenset({"monitor", "jobs", "events"})

# Close codes after which to connect again: restarts, lost connections, failing proxies, a relay with too much to do.
RETRY = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014})
# No token, a wrong one, or one that has expired.
UNAUTHENTICATED = 4401
# What a proxy answers while the relay behind it restarts.
PROXY_FAILURES = frozenset({502, 503, 504})
# Seconds before the second attempt; doubled for each further one.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
# Seconds for one request: longer than the relay waits for ComfyUI.
REQUEST_TIMEOUT = 60.0


class _Always(TypedDict):
    type: str
    job_id: str
    status: str
    progress: int
    estimated_remaining: Optional[int]
    message: str
    timestamp: str
    seq: int


class State(_Always, total=False):
    """A state of a job. Later versions of the relay may add fields."""

    estimated_low: int
    estimated_high: int
    estimated_completion: str
    estimated_start: str
    waiting_for: str
    attempt: int
    cancelling: bool
    output_path: str
    error: str
    prompt_id: str
    node: dict[str, Any]
    nodes: dict[str, int]
    queue_position: int
    elapsed: float
    outputs: list[dict[str, Any]]
    outputs_total: int
    backend: str
    labels: dict[str, str]
    group: str
    workflow: str


class _Submitted(TypedDict):
    job_id: str
    prompt_id: str
    backend: str
    ws_url: str


class Submitted(_Submitted, total=False):
    """A job that the relay has taken. `replayed`: an earlier request has made it."""

    urls: dict[str, str]
    message: str
    ignored: list[dict[str, Any]]
    replayed: bool
    retry_of: str


class RelayError(Exception):
    """The relay refuses a request; `code` is a stable word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


# A token, or a function that returns one: it is called for every request and connection.
Token = Union[str, Callable[[], str]]
# The name of a ComfyUI server, or labels that it has, such as "gpu=a100" or {"gpu": "a100"}; or several of them.
Backend = Union[str, "dict[str, str]", "list[Union[str, dict[str, str]]]"]


class Relay:
    """One relay. What is left out comes from the environment."""

    def __init__(self, url: Optional[str] = None, token: Optional[Token] = None) -> None:
        url = url or os.environ.get("COMFY_RELAY_URL") or os.environ.get("RELAY_URL") or DEFAULT_URL
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError(f"the relay's address must be http://HOST:PORT or https://HOST, not {url!r}")
        encrypted = parts.scheme in ("https", "wss")
        below = f"{parts.netloc}{parts.path.rstrip('/')}"
        self._http = f"{'https' if encrypted else 'http'}://{below}"
        self._ws = f"{'wss' if encrypted else 'ws'}://{below}"
        self._token: Token = os.environ.get("RELAY_TOKEN", "") if token is None else token
        self._tls = ssl.create_default_context() if encrypted else None
        authorities = os.environ.get("RELAY_CA_FILE")
        if self._tls is not None and authorities:
            self._tls.load_verify_locations(authorities)

    async def submit(
        self,
        workflow: Union[str, Mapping[str, Any]],
        *,
        job_id: Optional[str] = None,
        params: Optional[Mapping[str, Any]] = None,
        backend: Optional[Backend] = None,
        **more: Any,
    ) -> Submitted:
        """Submits a graph in API format, or a workflow of the relay's folder by its name.

        `more` are fields of the relay's API: labels, group, extra_data, preview_method, partial_execution_targets,
        front, number, priority, retries, webhook.
        """
        job: dict[str, Any] = {"workflow": workflow, "params": dict(params or {}), **more}
        job.update({name: value for name, value in (("job_id", job_id), ("backend", backend)) if value is not None})
        answer: Submitted = await self._post("/api/anime/jobs", job)
        return answer

    async def cancel(self, job_id: str) -> None:
        """Asks ComfyUI to interrupt a job where it runs, or to remove it where it waits."""
        await self._post(f"/api/anime/jobs/{quote(job_id, safe='')}/cancel", None)

    async def follow(self, job_id: str) -> AsyncIterator[State]:
        """The states of a job until its end, across restarts of the relay. Raises RelayError where it cannot be followed."""
        if job_id in RESERVED:
            raise ValueError(f"the job id {job_id!r} is reserved: the relay has an address of this name")
        newest: Optional[State] = None
        pause = FIRST_PAUSE
        was_refused = False
        while True:
            problem: Optional[RelayError] = None
            code = 1006
            why = ""
            try:
                async with self._connect(job_id) as socket:
                    # Ends without an exception where the relay closes for a restart.
                    async for text in socket:
                        message = json.loads(text)
                        if message["type"] == "error":
                            problem = RelayError(message.get("code", ""), message.get("error", ""))
                        elif message["type"] == "progress":
                            pause = FIRST_PAUSE
                            was_refused = False
                            state: State = message
                            if _is_new(state, newest):
                                newest = state
                                yield state
                            if state["status"] in FINAL:
                                return
                code = socket.protocol.close_code or 1005  # The socket itself has it from websockets 14.1 on.
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
            except websockets.InvalidStatus as refused:
                status = refused.response.status_code
                if status not in PROXY_FAILURES:
                    raise RelayError("refused", f"the relay answers {status}") from refused
            except ssl.SSLCertVerificationError as wrong:
                raise RelayError("bad_certificate", f"{wrong}; RELAY_CA_FILE names further authorities") from wrong
            except (websockets.InvalidHandshake, OSError) as error:
                why = str(error) or type(error).__name__  # It is not there at the moment.
            # A newer token may be accepted; one that is refused as well ends it.
            may_renew = code == UNAUTHENTICATED and callable(self._token) and not was_refused
            was_refused = was_refused or may_renew
            if code not in RETRY and not may_renew:
                raise problem or RelayError("closed", f"the relay has closed the connection (code {code})")
            if why and pause == FIRST_PAUSE:
                _log.warning("cannot connect to the relay at %s, retrying: %s", self._ws, why)
            await asyncio.sleep(random.uniform(FIRST_PAUSE, pause))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _connect(self, job_id: str) -> Any:
        token = self._bearer()
        protocols: Any = ["bearer", token] if token else None
        url = f"{self._ws}/ws/{quote(job_id, safe='')}"
        return connect(url, subprotocols=protocols, ssl=self._tls, max_size=None)

    def _bearer(self) -> str:
        return self._token() if callable(self._token) else self._token

    async def _post(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        token = self._bearer()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._http + path, data, headers, method="POST")
        return await asyncio.get_running_loop().run_in_executor(None, self._send, request)

    def _send(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT, context=self._tls) as response:
                return json.load(response)
        except urllib.error.HTTPError as refused:
            text = refused.read()
            try:
                error = json.loads(text)["error"]
                raise RelayError(error["code"], error["message"]) from None
            except (ValueError, KeyError, TypeError):
                raise RelayError("refused", f"the relay answers {refused.code}") from None


def _is_new(state: State, newest: Optional[State]) -> bool:
    """A connection that was made again starts with a state that may be known."""
    return newest is None or state["seq"] > newest["seq"] or state["timestamp"] > newest["timestamp"]


def follow(job_id: str, *, url: Optional[str] = None, token: Optional[Token] = None) -> AsyncIterator[State]:
    """The states of a job until its end: see Relay.follow()."""
    return Relay(url, token).follow(job_id)


async def submit(
    workflow: Union[str, Mapping[str, Any]],
    *,
    job_id: Optional[str] = None,
    params: Optional[Mapping[str, Any]] = None,
    backend: Optional[Backend] = None,
    url: Optional[str] = None,
    token: Optional[Token] = None,
    **more: Any,
) -> Submitted:
    """Submits a job: see Relay.submit()."""
    return await Relay(url, token).submit(workflow, job_id=job_id, params=params, backend=backend, **more)


async def cancel(job_id: str, *, url: Optional[str] = None, token: Optional[Token] = None) -> None:
    """Cancels a job: see Relay.cancel()."""
    await Relay(url, token).cancel(job_id)
