// Runs one of the old clients for some seconds, and prints what it did as one line of JSON.
//
//   node --experimental-websocket tests/clients/run.mjs tracker|hook ws://127.0.0.1:8328 JOB_ID [SECONDS]
//
// {"sockets", "opened", "closes": [code…], "updates": [[status or null, progress]…], "completed": [output_path…],
//  "errors": […], "seconds"}; node 22 and newer need no flag.

import { readFileSync } from "node:fs";
import { register } from "node:module";

const [client, server, job, seconds = "15"] = process.argv.slice(2);
const did = { client, sockets: 0, opened: 0, closes: [], updates: [], completed: [], errors: [] };

const Native = globalThis.WebSocket;
if (!Native) throw new Error("this node has no WebSocket: start it with --experimental-websocket");
globalThis.WebSocket = class extends Native {
  constructor(...given) {
    super(...given);
    did.sockets += 1;
    this.addEventListener("open", () => { did.opened += 1; });
    this.addEventListener("close", ({ code }) => did.closes.push(code));
  }
};

function here(name) {
  return new URL(name, import.meta.url);
}

if (client === "tracker") {
  const ProgressTracker = new Function(`${readFileSync(here("tracker.js"), "utf8")}; return ProgressTracker;`)();
  const tracker = new ProgressTracker(job, server);
  tracker.onUpdate = (progress) => did.updates.push([null, progress]);
  tracker.onComplete = (outputPath) => did.completed.push(outputPath ?? null);
  tracker.onError = (error) => did.errors.push(error);
  tracker.connect();
} else if (client === "hook") {
  const react = here("strict_mode.js").href;
  register(`data:text/javascript,${encodeURIComponent(
    `export const resolve = (name, context, next) => name === "react" ? { url: "${react}", format: "module", shortCircuit: true }
       : name.endsWith("/use_anime_progress.js") ? { url: name, format: "module", shortCircuit: true } : next(name, context);`)}`);
  const { mount } = await import(react);
  const { useAnimeProgress } = await import(here("use_anime_progress.js").href);
  mount(() => useAnimeProgress(job, server), ({ status, progress, outputPath, error }) => {
    did.updates.push([status, progress]);
    if (status === "completed" && !did.completed.length) did.completed.push(outputPath ?? null);
    if (error) did.errors.push(error);
  });
} else {
  throw new Error("the client is tracker or hook");
}

setTimeout(() => {
  console.log(JSON.stringify({ ...did, seconds: Number(seconds) }));
  process.exit(0);
}, Number(seconds) * 1000);
