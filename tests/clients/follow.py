#!/usr/bin/env python3
"""Prints the messages of a job until it has completed or failed, as scripts of the old system do.

    python3 follow.py JOB_ID [ws://127.0.0.1:8328]

Needs the package websockets. Leaves at a final status by itself.
"""

import asyncio
import json
import sys

import websockets


async def follow(job_id: str, server: str) -> None:
    async with websockets.connect(f"{server}/ws/{job_id}") as socket:
        async for text in socket:
            message = json.loads(text)
            print(text, flush=True)
            if message["type"] == "progress" and message["status"] in ("completed", "failed"):
                break


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8328"))
