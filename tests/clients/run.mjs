// Runs one of the old clients, and prints what it does, one line of JSON for each event. Ends when its standard input
// is closed, or after so many seconds.
//
//   node --experimental-websocket tests/clients/run.mjs tracker|hook ws://127.0.0.1:8328 JOB_ID [SECONDS]
//
// {"event": "socket" | "open" | "ping"}, {"event": "close", "code"}, {"event": "update", "status"?, "progress"},
// {"event": "completed", "output_path"}, {"event": "error", "error"}; node 22 and newer need no flag.

import { readFileSync } from "node:fs";
import { register } from "node:module";

const [client, server, job, seconds] = process.argv.slice(2);

function print(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

const Native = globalThis.WebSocket;
if (!Native) throw new Error("this node has no WebSocket: start it with --experimental-websocket");
globalThis.WebSocket = class extends Native {
  constructor(...given) {
    super(...given);
    print("socket");
    this.addEventListener("open", () => print("open"));
    this.addEventListener("close", ({ code }) => print("close", { code }));
    this.addEventListener("message", ({ data }) => JSON.parse(data).type === "ping" && print("ping"));
  }
};

function here(name) {
  return new URL(name, import.meta.url);
}

if (client === "tracker") {
  const ProgressTracker = new Function(`${readFileSync(here("tracker.js"), "utf8")}; return ProgressTracker;`)();
  const tracker = new ProgressTracker(job, server);
  tracker.onUpdate = (progress) => print("update", { progress });
  tracker.onComplete = (outputPath) => print("completed", { output_path: outputPath ?? null });
  tracker.onError = (error) => print("error", { error });
  tracker.connect();
} else if (client === "hook") {
  const react = here("strict_mode.js").href;
  register(`data:text/javascript,${encodeURIComponent(
    `export const resolve = (name, context, next) => name === "react" ? { url: "${react}", format: "module", shortCircuit: true }
       : name.endsWith("/use_anime_progress.js") ? { url: name, format: "module", shortCircuit: true } : next(name, context);`)}`);
  const { mount } = await import(react);
  const { useAnimeProgress } = await import(here("use_anime_progress.js").href);
  mount(() => useAnimeProgress(job, server), ({ status, progress, outputPath, error }) => {
    print("update", { status, progress });
    if (status === "completed") print("completed", { output_path: outputPath ?? null });
    if (error) print("error", { error });
  });
} else {
  throw new Error("the client is tracker or hook");
}

if (seconds) setTimeout(() => process.exit(0), Number(seconds) * 1000);
else process.stdin.on("end", () => process.exit(0)).resume();
