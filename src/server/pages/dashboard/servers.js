// The ComfyUI servers: what each does, and how it is.

import { servers, watchServers } from "./backends.js";
import { setText } from "./elements.js";
import { drawConnection, useFrame } from "./frame.js";
import { connection, follow } from "./live.js";
import { mayOperate, verbs } from "./operate.js";
import { ServerCard } from "./server_card.js";
import { FINAL, onDraw, timeLeft } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

/** The cards by the names of their servers. They stay, and with them the focus and a button under the pointer. */
const cards = new Map();

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
  const elements = known.map((server) => {
    const { name } = server;
    if (!cards.has(name)) cards.set(name, new ServerCard(name));
    cards.get(name).draw(described(server, open.filter(({ backend }) => backend === name)));
    return cards.get(name).element;
  });
  const { children } = $("servers");
  if (elements.length === children.length && elements.every((element, place) => children[place] === element)) return;
  $("servers").replaceChildren(...elements);
});

/** What is said of a server. */
function described(server, jobs) {
  const running = jobs.find(({ status }) => status === "processing");
  const since = server.unreachable_since && text("unreachable", { time: words.day(Date.parse(server.unreachable_since)) });
  // Without the relay nobody knows.
  const until = connection.state === "off" ? 0 : jobs.reduce((latest, job) => Math.max(latest, timeLeft(job)?.end ?? 0), 0);
  // Until the first attempt has failed, nothing says since when.
  const status = server.status === "unreachable" && !since ? "connecting" : server.status;
  return {
    status,
    asks: mayOperate ? verbs(server) : [],
    said: since || text(status),
    reason: server.reason ?? "",
    queue: text("queue_of", { running: server.queue_running, pending: server.queue_pending }),
    running: running ? { id: running.job_id, percent: words.percent(running.progress) } : null,
    until: until ? words.clock(until) : "",
    speed: server.speed ?? [],
  };
}
