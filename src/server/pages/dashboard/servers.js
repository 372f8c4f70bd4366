// The ComfyUI servers: what each does, and how it is.

import { jobPage } from "./api.js";
import { servers, watchServers } from "./backends.js";
import { icon, make, setText } from "./elements.js";
import { drawConnection, useFrame } from "./frame.js";
import { follow } from "./live.js";
import { speedLine } from "./speed_line.js";
import { mayOperate, operateButton, verbs } from "./operate.js";
import { FINAL, onDraw, timeLeft } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";
import * as words from "./words.js";

const STATES = { connected: ["ok", "check"], unreachable: ["away", "away"], held_elsewhere: ["held", "dot"], contested: ["warn", "warn"], stalled: ["away", "warn"], sick: ["away", "warn"], paused: ["held", "pause"], draining: ["held", "pause"] };

const $ = (id) => document.getElementById(id);
let shown = "";

useFrame();
showTitle(text("servers"));
watchServers();
follow();
onDraw((jobs) => {
  drawConnection();
  const known = servers();
  if (!known) return;
  $("main").removeAttribute("aria-busy");
  setText($("n-servers"), text("n_servers", { n: known.length }));
  const open = [...jobs.values()].filter(({ status }) => !FINAL.has(status));
  const cards = known.map((server) => described(server, open.filter(({ backend }) => backend === server.name)));
  const key = JSON.stringify(cards);
  if (key === shown) return;
  shown = key;
  $("servers").replaceChildren(...cards.map(card));
});

/** What is said of a server. */
function described(server, jobs) {
  const running = jobs.find(({ status }) => status === "processing");
  const since = server.unreachable_since && text("unreachable", { time: words.day(Date.parse(server.unreachable_since)) });
  const until = jobs.reduce((latest, job) => Math.max(latest, timeLeft(job)?.end ?? 0), 0);
  return {
    name: server.name,
    status: server.status,
    asks: mayOperate ? verbs(server) : [],
    said: since ?? text(server.status),
    reason: server.reason ?? "",
    queue: text("queue_of", { running: server.queue_running, pending: server.queue_pending }),
    running: running ? { id: running.job_id, percent: words.percent(running.progress) } : null,
    until: until ? words.clock(until) : "",
    speed: server.speed ?? [],
  };
}

function card({ name, status, asks, said, reason, queue, running, until, speed }) {
  const [state, symbol] = STATES[status] ?? ["warn", "warn"];
  const rows = [
    ["queue", queue],
    ["runs_now", running ? [make("a", running.id, { href: jobPage(running.id) }), ` ${running.percent}`] : text("nothing")],
    ["ends", until],
    ["speed", speed.length ? speedLine(speed) : ""],
  ].filter(([, value]) => value);
  const element = make("article", [
    make("h2", [make("span", name, { className: "one", title: name }), make("span", [icon(symbol), said], { className: `st ${state}` })]),
    reason && make("p", reason, { className: "reason" }),
    make("dl", rows.flatMap(([key, value]) => [make("dt", text(key)), make("dd", value)])),
    asks.length > 0 ? make("p", asks.map((verb) => operateButton(verb, name, "btn")), { className: "verbs" }) : "",
  ], { className: "server sheet" });
  element.dataset.state = state;
  return element;
}
