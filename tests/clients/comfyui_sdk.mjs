// Uses the package @saintno/comfyui-sdk as its users do. Prints one line of JSON for each event.
//
// node comfyui_sdk.mjs MODULE URL FILE NODE [TOKEN]   submits a workflow, follows it, and reads the first picture of a node

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [module, url, file, node, token] = process.argv.slice(2);
const { CallWrapper, ComfyApi, PromptBuilder } = await import(pathToFileURL(module));

const event = (name, fields) => console.log(JSON.stringify({ event: name, ...fields }));

const credentials = token ? { credentials: { type: "bearer_token", token } } : {};
const api = new ComfyApi(url, undefined, credentials);
await api.init().waitForReady();
event("ready", { version: (await api.getSystemStats()).system.comfyui_version });
const workflow = new PromptBuilder(JSON.parse(readFileSync(file)), [], ["images"]).setOutputNode("images", node);
const result = await new CallWrapper(api, workflow)
  .onPending((prompt) => event("queued", { prompt }))
  .onProgress((info) => event("progress", { value: info.value, max: info.max }))
  .onFailed((error) => event("failed", { message: error.message }))
  .run();
if (result) {
  const picture = await api.getImage(result.images.images[0]);
  event("picture", { name: result.images.images[0].filename, size: picture.size });
}
event("done");
api.destroy();
process.exit(0);
