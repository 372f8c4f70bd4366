"""Uses the package comfy-sdk as its users do. Prints one line of JSON for each event. The address is in COMFY_BASE_URL.

run FILE [TOKEN]       submits a workflow, follows it, and reads its pictures
cancel FILE [TOKEN]    submits a workflow, and cancels it once it runs
later JOB [TOKEN]      reads the pictures of a job that another process has submitted
"""

import json
import sys

from comfy_sdk import Comfy, OutputReady, Preview, Progress, StatusChange


def event(name: str, /, **fields: object) -> None:
    print(json.dumps({"event": name, **fields}), flush=True)


def show_pictures(job) -> None:
    for output in job.outputs:
        content = output.to_bytes()
        part = output.to_bytes(range=(0, 3))
        event(
            "picture",
            node=output.node_id,
            name=output.name,
            type=output.type,
            head=content[:4].hex(),
            part=part.hex(),
            is_whole=len(content) == output.size_bytes,
            url=output.get_download_url().url,
        )


def main() -> None:
    scenario, subject, *token = sys.argv[1:]
    with Comfy(api_key=token[0] if token else None) as client:
        if scenario == "later":
            job = client.jobs.get(subject)
            event("job", id=job.id, status=job.status, metadata=job.metadata)
            show_pictures(job)
            event("done")
            return
        workflow = client.workflows.from_file(subject)
        job = client.submit(workflow, metadata={"shot": "7"})
        event("submitted", id=job.id, status=job.status, metadata=job.metadata)
        for change in job.events():
            match change:
                case Progress():
                    event("progress", value=change.value, node=change.current_node, steps=change.steps)
                    if scenario == "cancel":
                        job.cancel()
                        event("cancelling", status=job.status)
                        break
                case Preview():
                    event("preview", type=change.content_type, size=len(change.data))
                case OutputReady():
                    event("output", id=change.output.id)
                case StatusChange():
                    event("status", status=change.status)
        job.wait(timeout=60)
        event("ended", status=job.status, error=job.error and job.error.model_dump(mode="json"))
        if scenario == "run":
            show_pictures(job)
            event("workflow", format=job.get_workflow().format, nodes=len(job.get_workflow().graph))
            event("listed", ids=[summary.id for summary in client.list_jobs(metadata={"shot": "7"})])
        event("done")


main()
