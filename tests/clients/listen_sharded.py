"""Listens on the sharded channel of a job on a Redis Cluster, and prints each message.

    python3 listen_sharded.py PORT JOB_ID
"""

import json
import sys

from redis.cluster import RedisCluster

port, job_id = sys.argv[1:]
channel = RedisCluster(host="127.0.0.1", port=int(port)).pubsub()
channel.ssubscribe(f"anime_progress:{{{job_id}}}")
while True:
    message = channel.get_sharded_message(timeout=1)
    if message is None:
        continue
    if message["type"] == "ssubscribe":
        print(json.dumps({"event": "listening"}), flush=True)
    elif message["type"] == "smessage":
        state = json.loads(message["data"])
        print(json.dumps(state), flush=True)
        if state["status"] in ("completed", "failed", "cancelled"):
            break
