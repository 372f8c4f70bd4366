// Measures the dashboard while many jobs run, through a relay; no test runs it, because a busy machine decides the figures:
//   cargo build --release
//   node tests/browser/frames.mjs [PROGRAM [JOBS [SECONDS]]]
//
// A server in this script is 20 ComfyUIs, each of which sends the steps of 50 of the 1,000 jobs ten times a second. The
// relay follows them, and publishes each job as often; the page gets all states over its one socket, in Chromium, for a
// minute. Prints lines of JSON: the first paint of five loads without a cache, how many states came, the frames of more
// than 50 ms (by Long Animation Frames), the longest tasks of the page's thread by Chromium's trace (`wall` as the clock
// saw them, `cpu` what they took of a core: a busy machine has them wait), the heap before and after, and the load.
//
// There should be: a first paint under 300 ms, no frame over 50 ms, and a heap that stays.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";

import { print, withPage } from "./chromium.mjs";

const { WebSocketServer } = createRequire(new URL("../../target/tools/", import.meta.url))("ws");

const [program = "target/release/comfy-relay", jobs = "1000", seconds = "60"] = process.argv.slice(2);
const SERVERS = 20;
const JOBS = Number(jobs);
const SECONDS = Number(seconds);

/** How often each job changes, in a second. */
const RATE = 10;

/** A step of a bar that lasts longer than the measurement. */
const STEPS = 100_000;

/** A frame that takes longer is seen to stutter, in milliseconds. */
const LONG = 50;

/** For how long Chromium traces, in milliseconds: the trace of a minute has gigabytes. */
const TRACED = 15_000;

const GRAPH = { 3: { class_type: "KSampler", inputs: { steps: STEPS, seed: 7 } }, 9: { class_type: "SaveImage", inputs: { images: ["3", 0] } } };
const FIRST_LOADS = 5;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A ComfyUI on which these prompts run, as far as a relay asks. */
async function comfyui(prompts) {
  const answers = {
    "/queue": { queue_running: prompts.map((id, number) => [number, id, GRAPH, {}, ["9"]]), queue_pending: [] },
    "/system_stats": { system: { comfyui_version: "0.8.0" } },
  };
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answers[new URL(request.url, "http://localhost").pathname] ?? {}));
  });
  const sockets = new WebSocketServer({ server });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { prompts, sockets, server, address: `127.0.0.1:${server.address().port}` };
}

function send({ sockets }, type, data) {
  const text = JSON.stringify({ type, data });
  for (const socket of sockets.clients) socket.send(text);
}

/** Sends the next step of every job, a part of them every few milliseconds. Returns how many it has sent. */
function run(servers) {
  const all = servers.flatMap((server) => server.prompts.map((prompt) => [server, prompt]));
  const began = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = ((performance.now() - began) / 1000) * RATE * all.length;
    // What a busy machine could not send in time is left out.
    sent = Math.max(sent, due - all.length);
    for (; sent < due; sent += 1) {
      const [server, prompt_id] = all[Math.floor(sent) % all.length];
      send(server, "progress", { prompt_id, node: "3", value: 1 + Math.floor(sent / all.length), max: STEPS });
    }
  }, 5);
  return () => clearInterval(timer);
}

async function startRelay(servers) {
  const folder = mkdtempSync(join(tmpdir(), "comfy-relay-frames-"));
  const options = ["serve", "--listen", "127.0.0.1:0", "--database-url", `sqlite:${folder}/jobs.db`, "--comfyui-url", servers.map(({ address }) => address).join(), "--rate-limit-requests", "0"];
  const relay = spawn(program, options, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const address = await new Promise((resolve, reject) => {
    const look = (bytes) => {
      said += bytes;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said.split("serving ").at(-1));
      if (said.includes("serving ") && found) resolve(`${found[0]}/`);
    };
    relay.stdout.on("data", look);
    relay.stderr.on("data", look);
    relay.on("exit", () => reject(new Error(said)));
  });
  const stop = async () => {
    relay.removeAllListeners("exit");
    const gone = new Promise((resolve) => relay.on("exit", resolve));
    relay.kill();
    await gone;
    rmSync(folder, { recursive: true, force: true });
  };
  return { address, stop };
}

async function register(address, servers) {
  for (const { prompts, address: backend } of servers) {
    for (const prompt_id of prompts) {
      const answer = await fetch(`${address}api/anime/jobs`, { method: "POST", body: JSON.stringify({ prompt_id, backend }) });
      if (!answer.ok) throw new Error(await answer.text());
    }
  }
}

async function firstPaints(page, address) {
  const paints = [];
  for (let load = 0; load < FIRST_LOADS; load += 1) {
    await page.goto(address);
    await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
    paints.push(await page.evaluate(() => Math.round(performance.getEntriesByName("first-contentful-paint")[0].startTime)));
  }
  return paints;
}

/** Before a page loads: counts the states that come, and keeps how long its long frames take. */
function watch(long) {
  window.measured = { states: 0, frames: [] };
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...values) {
      super(...values);
      this.addEventListener("message", ({ data }) => {
        if (typeof data === "string" && data.startsWith('{"type":"progress"')) window.measured.states += 1;
      });
    }
  };
  const observer = new PerformanceObserver((list) => {
    for (const { duration, startTime } of list.getEntries()) if (duration > long) window.measured.frames.push({ at: Math.round(startTime), took: Math.round(duration) });
  });
  observer.observe({ type: "long-animation-frame", buffered: true });
}

async function heap(session) {
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  return Number((usedSize / 1e6).toFixed(1));
}

/** The longest tasks of the page's main thread while it traces, in milliseconds. */
async function longestTasks(session, milliseconds) {
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => {
    for (const event of value) if (event.name === "thread_name" || event.name.endsWith("RunTask")) events.push(event);
  });
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "__metadata"], excludedCategories: ["*"] } });
  await pause(milliseconds);
  const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  await session.send("Tracing.end");
  await complete;
  const main = new Set(events.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = events.filter(({ pid, tid, dur }) => dur && main.has(`${pid} ${tid}`));
  const longest = (key) => Number((tasks.reduce((most, task) => Math.max(most, task[key] ?? 0), 0) / 1000).toFixed(1));
  return { tasks: tasks.length, wall: longest("dur"), cpu: longest("tdur"), long: tasks.filter(({ dur }) => dur > LONG * 1000).length };
}

const servers = await Promise.all(Array.from({ length: SERVERS }, (_, server) => comfyui(
  Array.from({ length: JOBS / SERVERS }, (_, job) => `shot-${server}-${job}`),
)));
const relay = await startRelay(servers);
let end = () => {};
try {
  await withPage(async (page, browser) => {
    const session = await browser.newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.setCacheDisabled", { cacheDisabled: true });
    print("first_paint", { milliseconds: await firstPaints(page, relay.address), load: loadavg()[0] });
    await register(relay.address, servers);
    for (const server of servers) for (const prompt_id of server.prompts) send(server, "execution_start", { prompt_id });
    end = run(servers);
    await page.addInitScript(watch, LONG);
    await page.goto(relay.address);
    await page.locator("main:not([aria-busy])").waitFor();
    // What the page does at its start is no stutter.
    await pause(5_000);
    const before = { heap: await heap(session), at: performance.now() };
    await page.evaluate(() => Object.assign(window.measured, { states: 0, frames: [] }));
    const tasks = await longestTasks(session, Math.min(TRACED, SECONDS * 500));
    await pause(Math.max(0, SECONDS * 1000 - (performance.now() - before.at)));
    const measured = await page.evaluate(() => window.measured);
    const took = (performance.now() - before.at) / 1000;
    print("frames", {
      jobs: JOBS, seconds: Math.round(took), states_per_second: Math.round(measured.states / took),
      long_frames: measured.frames.length, longest_frame: Math.max(0, ...measured.frames.map((frame) => frame.took)),
      tasks, heap: [before.heap, await heap(session)], load: loadavg()[0],
    });
  }, { viewport: { width: 1280, height: 900 } });
} finally {
  end();
  await relay.stop();
  for (const { sockets, server } of servers) {
    sockets.clients.forEach((socket) => socket.terminate());
    server.close();
  }
}
