// Uses the package @comfyorg/sdk as its users do. Prints one line of JSON for each event. The address is in COMFY_BASE_URL.
//
// node sdk_of_typescript.mjs MODULE run FILE [TOKEN]      submits a workflow, follows it, and reads its pictures
// node sdk_of_typescript.mjs MODULE cancel FILE [TOKEN]   submits a workflow, and cancels it once it runs
// node sdk_of_typescript.mjs MODULE load FILE             uploads a file twice, and submits a workflow that loads it

import { pathToFileURL } from "node:url";

const [module, scenario, file, token] = process.argv.slice(2);
const { Comfy } = await import(pathToFileURL(module));

const event = (name, fields) => console.log(JSON.stringify({ event: name, ...fields }));
const head = (bytes) => Buffer.from(bytes.slice(0, 4)).toString("hex");

async function load(client, workflow) {
  const [node] = Object.keys(workflow.json).filter((id) => workflow.json[id].class_type === "LoadImage");
  const content = new TextEncoder().encode("the content of a photo");
  const asset = client.assets.fromBytes(content, { filename: "photo.png" });
  workflow.setInput(node, "image", asset);
  const job = await client.run(workflow);
  event("ended", { status: job.status });
  const { workflow: graph } = await job.getWorkflow();
  event("uploaded", { is_new: asset.createdNew, file: graph[node].inputs.image });
  const again = client.assets.fromBytes(content, { filename: "again.png" });
  await again.commit();
  event("again", { is_new: again.createdNew, is_other: again.id !== asset.id });
  await again.delete();
  await client.assets.get(asset.id);
  const missing = client.assets.delete("7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b");
  await missing.catch((error) => event("refused", { message: error.message }));
  event("done");
}

const client = new Comfy(token ? { apiKey: token } : {});
const workflow = await client.workflows.fromFile(file);
if (scenario === "load") {
  await load(client, workflow);
  process.exit(0);
}
const job = await client.submit(workflow);
event("submitted", { id: job.id, status: job.status });
for await (const change of job.events()) {
  if (change.kind === "progress") {
    event("progress", { value: change.value, node: change.currentNode, steps: change.steps });
    if (scenario === "cancel") {
      await job.cancel();
      event("cancelling", { status: job.status });
      break;
    }
  } else if (change.kind === "outputReady") event("output", { id: change.output.id });
  else if (change.kind === "statusChange") event("status", { status: change.status });
  else event(change.kind);
}
await job.wait(60_000);
event("ended", { status: job.status, error: job.error });
if (scenario === "run") {
  for (const output of job.outputs) {
    const content = await output.toBytes();
    const part = await output.toBytes({ range: [0, 3] });
    const { url } = await output.getDownloadUrl();
    const isWhole = content.length === output.sizeBytes;
    event("picture", { name: output.name, type: output.type, head: head(content), part: head(part), is_whole: isWhole, url });
  }
  const { format, workflow: graph } = await job.getWorkflow();
  event("workflow", { format, nodes: Object.keys(graph).length });
}
event("done");
process.exit(0);
