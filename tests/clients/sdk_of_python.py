"""Uses the package comfy-sdk as its users do. Prints one line of JSON for each event. The address is in COMFY_BASE_URL.

run FILE [TOKEN]       submits a workflow, follows it, and reads its pictures
cancel FILE [TOKEN]    submits a workflow, and cancels it once it runs
repeat FILE            submits a workflow three times under one key, the last time another one
load FILE              uploads a file twice, and submits a workflow that loads it
later JOB [TOKEN]      reads the pictures of a job that another process has submitted
"""

import json
import sys

from comfy_sdk import Comfy, IdempotencyKeyReuse, NotFound, OutputReady, Preview, Progress, StatusChange


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


def load(client, workflow) -> None:
    [node] = [key for key, node in workflow.json.items() if node["class_type"] == "LoadImage"]
    content = b"the content of a photo"
    asset = client.assets.from_bytes(content, filename="photo.png")
    workflow.set_input(node, "image", asset)
    job = client.run(workflow)
    event("ended", status=job.status)
    graph = job.get_workflow().graph
    event("uploaded", is_new=asset.created_new, file=graph[node]["inputs"]["image"])
    again = client.assets.from_bytes(content, filename="again.png")
    again.commit()
    event("again", is_new=again.created_new, is_other=again.id != asset.id)
    again.delete()
    client.assets.get(asset.id)
    try:
        client.assets.delete("7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b")
    except NotFound as error:
        event("refused", message=str(error))
    event("done")


def repeat(client, workflow) -> None:
    first = client.submit(workflow, idempotency_key="order-1")
    again = client.submit(workflow, idempotency_key="order-1")
    event("repeated", is_same=again.id == first.id)
    [sampler] = [node for node in workflow.json.values() if node["class_type"] == "KSampler"]
    sampler["inputs"]["seed"] += 1
    try:
        client.submit(workflow, idempotency_key="order-1")
    except IdempotencyKeyReuse as error:
        event("refused", message=str(error))
    event("done")


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
        if scenario in ("load", "repeat"):
            {"load": load, "repeat": repeat}[scenario](client, workflow)
            return
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
