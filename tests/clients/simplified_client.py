"""Uses the package comfy-api-simplified as its users do. Prints one line of JSON for each event.

picture URL FILE TITLE [USER PASSWORD]   submits a workflow, waits for it, and reads the picture of the node with this title
cancel URL FILE                          submits a workflow, and interrupts it once it runs
"""

import json
import sys
import time

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper


def event(name: str, /, **fields: object) -> None:
    print(json.dumps({"event": name, **fields}), flush=True)


def main() -> None:
    scenario, url, file, *arguments = sys.argv[1:]
    workflow = ComfyWorkflowWrapper(file)
    if scenario == "picture":
        title, *login = arguments
        api = ComfyApiWrapper(url, *login)
        pictures = api.queue_and_wait_images(workflow, title)
        for name, content in pictures.items():
            event("picture", name=name, head=content[:4].hex(), size=len(content))
    else:
        api = ComfyApiWrapper(url)
        prompt_id = api.queue_prompt(workflow)["prompt_id"]
        event("queued", prompt_id=prompt_id)
        while not any(prompt[1] == prompt_id for prompt in api.get_queue()["queue_running"]):
            time.sleep(0.05)
        event("running", before=api.get_queue_size_before(prompt_id))
        api.interrupt()
    event("done")


main()
