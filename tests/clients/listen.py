"""Listens on the channel of a job, as services of the system before the relay do, and prints each message.

    python3 listen.py PORT JOB_ID
"""

import json
import sys

import redis

port, job_id = sys.argv[1:]
channel = redis.Redis(port=int(port)).pubsub()
channel.subscribe(f"anime_progress:{job_id}")
for message in channel.listen():
    if message["type"] == "subscribe":
        print(json.dumps({"event": "listening"}), flush=True)
    elif message["type"] == "message":
        state = json.loads(message["data"])
        print(json.dumps(state), flush=True)
        if state["status"] in ("completed", "failed", "cancelled"):
            break
