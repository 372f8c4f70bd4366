#!/usr/bin/env python3
"""A pipeline that runs one workflow in ComfyUI and reports its progress to comfy-relay.

It looks at ComfyUI every two seconds, as pipelines do that have no socket to it: so it knows that a prompt waits,
runs, or has ended, and guesses in between. `comfy-relay submit` knows every step.

    python3 poll_comfyui.py workflow_api.json [--job-id ID] [--comfyui http://127.0.0.1:8188] [--expect SECONDS]

Exit code: 0 completed, 1 failed, 2 ComfyUI does not take the workflow or cannot be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

try:
    from websocket_manager import connection_manager
except ImportError:  # Run from a checkout.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from websocket_manager import connection_manager

POLL_INTERVAL = 2.0
# Looks that may fail in a row before the job counts as failed: a restart of ComfyUI takes a minute.
MAX_FAILURES = 30
# Looks in a row that may find a prompt neither in the queue nor in the history: entries come a little late.
MAX_MISSING = 5

Outcome = Tuple[str, str, Optional[str]]


class ComfyUi:
    """ComfyUI's HTTP API, as far as the pipeline needs it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    async def request(self, path: str, body: Optional[Dict[str, Any]] = None) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, self._request, path, body)

    def _request(self, path: str, body: Optional[Dict[str, Any]]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


def outcome(entry: Dict[str, Any]) -> Outcome:
    """Status, message and first output of a history entry. Old versions of ComfyUI write no status."""
    status = entry.get("status") or {}
    for name, details in status.get("messages", []):
        if name == "execution_error":
            return "failed", "{node_type}: {exception_message}".format(**details).strip(), None
        if name == "execution_interrupted":
            return "cancelled", "Interrupted", None
    if status.get("status_str") == "error":
        return "failed", "ComfyUI reports an error", None
    for outputs in entry.get("outputs", {}).values():
        for files in outputs.values():
            for file in files if isinstance(files, list) else []:
                if isinstance(file, dict) and file.get("type") == "output":
                    return "completed", "Completed", os.path.join(file.get("subfolder", ""), file["filename"])
    return "completed", "Completed", None


async def run(comfyui: ComfyUi, workflow: Dict[str, Any], job_id: str, expect: float) -> str:
    """Submits, looks and reports until the end; returns the final status."""

    async def report(progress: int, status: str, message: str, remaining: Optional[int] = None,
                     output_path: Optional[str] = None) -> None:
        await connection_manager.send_progress_update(
            job_id=job_id, progress=progress, status=status, estimated_remaining=remaining,
            message=message, output_path=output_path)

    prompt = await comfyui.request("/prompt", {"prompt": workflow, "client_id": uuid.uuid4().hex})
    prompt_id = prompt["prompt_id"]
    await report(0, "queued", "Submitted to ComfyUI")
    began: Optional[float] = None
    failures = missing = 0
    while failures < MAX_FAILURES and missing < MAX_MISSING:
        await asyncio.sleep(POLL_INTERVAL)
        try:
            history = await comfyui.request("/history/" + prompt_id)
            queue = await comfyui.request("/queue")
        except (OSError, ValueError):
            failures += 1
            continue
        failures = 0
        if prompt_id in history:
            status, message, output_path = outcome(history[prompt_id])
            await report(100 if status == "completed" else 0, status, message, 0, output_path)
            return status
        running = [entry[1] for entry in queue["queue_running"]]
        # In the order of ComfyUI's queue: by number, not as they are listed.
        waiting = [entry[1] for entry in sorted(queue["queue_pending"], key=lambda entry: entry[0])]
        if prompt_id in running:
            began = began or time.monotonic()
            seconds = time.monotonic() - began
            await report(min(95, int(100 * seconds / expect)), "processing", "Generating", max(1, int(expect - seconds)))
        elif prompt_id in waiting:
            await report(0, "queued", "Queued, {} ahead".format(len(running) + waiting.index(prompt_id)))
        missing = 0 if prompt_id in running or prompt_id in waiting else missing + 1
    await report(0, "failed", "ComfyUI no longer answers" if failures else "ComfyUI has lost the prompt")
    return "failed"


def main() -> int:
    arguments = argparse.ArgumentParser(description="Runs a workflow in ComfyUI and reports its progress.")
    arguments.add_argument("workflow", help='a file exported with "Export (API)"')
    arguments.add_argument("--job-id", default=None, help="a new UUID by default")
    arguments.add_argument("--comfyui", default=os.environ.get("COMFYUI_URL", "http://127.0.0.1:8188"))
    arguments.add_argument("--expect", type=float, default=30, help="seconds that a run usually takes")
    given = arguments.parse_args()
    job_id = given.job_id or str(uuid.uuid4())
    try:
        workflow = json.loads(Path(given.workflow).read_text(encoding="utf-8"))
        print("job", job_id, flush=True)
        status = asyncio.run(run(ComfyUi(given.comfyui), workflow, job_id, given.expect))
    except urllib.error.HTTPError as error:
        print("ComfyUI refuses the workflow:", error.read(2000).decode("utf-8", "replace"), file=sys.stderr)
        return 2
    except (OSError, ValueError, KeyError) as error:
        print("cannot run the workflow:", error, file=sys.stderr)
        return 2
    print(status)
    return 0 if status == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
