"""Reports on a job over Redis, each time when the relay has published what was reported before.

    python3 report.py PORT JOB_ID
"""

import json
import sys

import redis

port, job_id = sys.argv[1:]
client = redis.Redis(port=int(port))
states = client.pubsub(ignore_subscribe_messages=True)
states.subscribe(f"anime_progress:{job_id}")
states.get_message(timeout=10)
for progress in (10, 40, 70, 100):
    report = {
        "progress": progress,
        "status": "completed" if progress == 100 else "processing",
        "message": f"Frame {progress}",
    }
    if progress == 10:
        report["labels"] = {"shot": "12"}
    client.publish(f"anime_progress_in:{job_id}", json.dumps(report))
    for message in states.listen():
        state = json.loads(message["data"])
        if state["progress"] == progress:
            print(json.dumps(state), flush=True)
            break
