"""Uses the package comfy-script as its users do. Prints one line of JSON for each event.

picture URL   runs a workflow that is written in Python, and reads its picture
cancel URL    runs it, and interrupts it once the server does
"""

import contextlib
import json
import os
import sys
import time
from urllib.request import urlopen


def event(name: str, /, **fields: object) -> None:
    print(json.dumps({"event": name, **fields}), file=events, flush=True)


# The package prints what it does.
events = sys.stdout
with contextlib.redirect_stdout(sys.stderr):
    scenario, url = sys.argv[1:]
    from comfy_script.runtime import Workflow, load, queue

    load(url)
    from comfy_script.runtime.nodes import *

    with Workflow() as workflow:
        model, clip, vae = CheckpointLoaderSimple(ckpt_name="tiny-sd15.safetensors")
        scenery = "beautiful scenery nature glass bottle landscape, purple galaxy bottle,"
        latent = KSampler(
            model=model,
            positive=CLIPTextEncode(text=scenery, clip=clip),
            negative=CLIPTextEncode(text="text, watermark", clip=clip),
            latent_image=EmptyLatentImage(width=128, height=128, batch_size=1),
            seed=1234567,
            steps=20,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        )
        SaveImage(images=VAEDecode(samples=latent, vae=vae), filename_prefix="ComfyUI")
    task = workflow.task
    event("queued", prompt_id=task.prompt_id)
    task.add_progress_callback(lambda progress: event("progress", value=progress.value, max=progress.max))
    if scenario == "cancel":
        while not json.load(urlopen(f"{url}/queue"))["queue_running"]:
            time.sleep(0.05)
        queue.cancel_current()
    results = task.wait()
    for result in results:
        for image in result.wait():
            event("picture", format=image.format, size=image.size)
    event("done")
# Its thread that reads the socket does not end.
os._exit(0)
