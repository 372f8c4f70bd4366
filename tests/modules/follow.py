"""Submits a workflow, follows the job to its end, and prints each state; or follows or cancels one that is there.

    python3 follow.py submit WORKFLOW.json JOB_ID | follow JOB_ID | cancel JOB_ID
"""

import asyncio
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "clients/python"))

from comfy_relay import RelayError, cancel, follow, submit  # noqa: E402


async def main(verb: str, *given: str) -> None:
    try:
        if verb == "cancel":
            return await cancel(given[0])
        job_id = given[-1]
        if verb == "submit":
            graph = json.loads(pathlib.Path(given[0]).read_text())
            submitted = await submit(graph, job_id=job_id)
            print(json.dumps({"event": "submitted", **submitted}), flush=True)
        async for state in follow(job_id):
            print(json.dumps({"event": "state", **state}), flush=True)
    except RelayError as error:
        print(json.dumps({"event": "refused", "code": error.code, "message": error.message}), flush=True)
    except ValueError as error:
        print(json.dumps({"event": "refused", "message": str(error)}), flush=True)
    finally:
        print(json.dumps({"event": "done"}), flush=True)


asyncio.run(main(*sys.argv[1:]))
