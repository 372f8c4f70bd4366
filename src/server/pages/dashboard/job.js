// The page of one job.

import { BASE, TOKEN, jobPage, jobPath, request } from "./api.js";
import { notifyEnd, useBell } from "./bell.js";
import { cancelButton, drawCancel } from "./cancel.js";
import { copyButton } from "./clipboard.js";
import { compareClocks, relayNow } from "./clock.js";
import { icon, make, setText } from "./elements.js";
import { drawConnection, useFrame } from "./frame.js";
import { Gallery } from "./gallery.js";
import { JobState } from "./job_state.js";
import { connection } from "./live.js";
import { showMakes } from "./makes.js";
import { JobSocket } from "./relay.js";
import { showRing } from "./ring.js";
import { say } from "./said.js";
import { showTexts } from "./shown.js";
import { FINAL, drawSoon, get, onDraw, onEnd, put } from "./store.js";
import { showTitle } from "./tab.js";
import { showTake } from "./take.js";
import { text } from "./texts.js";
import { askForToken } from "./token.js";
import { drawWaterfall, useClock } from "./waterfall.js";
import { drawWhy } from "./why.js";
import * as words from "./words.js";

/** How often the explanation is read while the job is open, in milliseconds. */
const EXPLAIN_INTERVAL = 2_000;

/** How many of the next jobs of the server are shown. */
const NEXT = 6;

/** A shorter error of one line, in characters, is in its title alone. */
const SHORT_ERROR = 160;

const $ = (id) => document.getElementById(id);
const id = decodeURIComponent(location.pathname.split("/").filter(Boolean).at(-1));
const gallery = new Gallery(id);
let explained = null;
let isRead = false;
/** Whether its record was read: it has more than its states. */
let isKnown = false;
let missing = null;
let workflow = null;

useFrame();
useClock(relayNow);
const state = new JobState($("state"));
setText($("name"), id);
setText($("crumb-job"), id);
showTitle(id);

onDraw(() => {
  drawConnection();
  const job = get(id);
  if (job) draw(job);
  else if (missing) drawMissing();
});
onEnd((job) => {
  if (job.job_id !== id) return;
  say(text(`now_${job.status}`, { name: id }));
  notifyEnd(job);
  readAll();
});

follow();
readAll();
setInterval(() => {
  const job = get(id);
  if (!job || document.hidden) return;
  if (!isKnown) return void readAll();
  if (FINAL.has(job.status)) return;
  explain();
  if (job.status === "queued") readNext().catch(() => {});
}, EXPLAIN_INTERVAL);

function follow() {
  const socket = new JobSocket(id, { previews: true, server: BASE.href, token: TOKEN });
  socket.addEventListener("progress", ({ detail }) => {
    const isFirst = !get(id);
    compareClocks(detail.timestamp);
    put(detail);
    if (isFirst) readAll();
  });
  socket.addEventListener("preview", ({ detail: { blob } }) => {
    const node = get(id)?.node;
    gallery.takePreview(blob, node?.steps ? text("step_of", node) : "");
  });
  socket.addEventListener("unregistered", ({ detail }) => {
    missing = { until: performance.now() + detail.job_wait * 1000 };
    drawSoon();
  });
  socket.addEventListener("problem", ({ detail }) => {
    if (detail.code === "unauthenticated") askForToken(TOKEN ? detail.error : undefined);
  });
  socket.addEventListener("state", ({ detail }) => {
    if (detail.state === "open") connection.state = detail.note ? "stream" : "on";
    // A job that has ended changes no more: the relay need not be there.
    else if (detail.state !== "connecting" && !FINAL.has(get(id)?.status)) connection.state = "off";
    if (detail.code === 4404) missing = { until: 0 };
    if (detail.code === 4403) missing = { until: 0, text: text("token_no") };
    if (detail.state === "waiting" || detail.state === "closed") connection.since = relayNow();
    drawSoon();
  });
  socket.connect();
}

function isLive() {
  return connection.state === "on" || connection.state === "stream";
}

/** Reads what does not come over the socket. */
async function readAll() {
  if (!get(id) && !isLive()) return;
  try {
    put(await request(jobPath(id)));
    isKnown = true;
  } catch {
    // The state says what is wrong. It is read again.
  }
  await Promise.allSettled([explain(), readWorkflow(), readNext()]);
  isRead = true;
  drawSoon();
}

async function explain() {
  try {
    explained = await request(jobPath(id, "/estimate"));
  } catch {
    // The state says what is wrong.
  }
  drawSoon();
}

async function readWorkflow() {
  if (workflow !== null || !get(id)?.prompt_id) return;
  workflow = {};
  try {
    ({ workflow } = await request(jobPath(id, "/workflow"), { read: readExactly }));
    showMakes(workflow);
    drawActions(get(id), true);
  } catch {
    // ComfyUI has forgotten it.
  }
}

/** The JSON of an answer with whole numbers as they are: a `Number` would round seeds. */
async function readExactly(response) {
  const exact = (_key, value, { source } = {}) => (/^-?\d+$/.test(source) && !Number.isSafeInteger(value) ? BigInt(source) : value);
  return JSON.parse(await response.text(), exact);
}

async function readNext() {
  const { backend } = get(id) ?? {};
  if (!backend) return;
  const { jobs } = await request(`api/anime/jobs?status=queued,processing&limit=200&backend=${encodeURIComponent(backend)}`);
  jobs.sort((a, b) => (a.queue_position ?? Infinity) - (b.queue_position ?? Infinity));
  const place = jobs.findIndex(({ job_id }) => job_id === id);
  const before = jobs[place - 1];
  get(id).before = before && { id: before.job_id, end: Date.parse(before.estimated_completion) };
  // It can be behind the longest list: what is next is then not known.
  const isBehind = place < 0 && !FINAL.has(get(id).status);
  const next = isBehind ? [] : jobs.slice(place + 1).filter(({ status }) => status === "queued").slice(0, NEXT);
  $("next").hidden = next.length === 0;
  setText($("h-next"), text("next_on", { server: backend }));
  $("next-list").replaceChildren(...next.map((job) => make("li", [
    make("a", job.job_id, { href: jobPage(job.job_id), className: "one" }),
    make("span", job.estimated_completion ? text("done_at", { time: words.clock(Date.parse(job.estimated_completion)) }) : text("not_known")),
  ])));
}

function draw(job) {
  missing = null;
  // What was read appears at once: one part would push another down.
  if (isRead) $("main").removeAttribute("aria-busy");
  state.draw(job, explained, isLive());
  gallery.take(job);
  showTexts(job, explained?.nodes);
  drawHead(job);
  drawActions(job);
  drawFault(job);
  drawWaterfall(explained, job);
  drawWhy(explained, job);
  showTake($("take"), job);
  const isOpen = !FINAL.has(job.status);
  const title = isOpen ? (job.status === "queued" ? text("waiting") : words.percent(job.progress)) : text(job.status);
  showTitle(`${title} · ${id}`);
  showRing(isOpen && job.status === "queued" ? 0 : isOpen ? job.progress : 100, job.status);
}

function drawMissing() {
  $("main").removeAttribute("aria-busy");
  const left = Math.ceil((missing.until - performance.now()) / 1000);
  if (missing.text) state.drawMissing(text("not_here"), missing.text, "");
  else if (left > 0) state.drawMissing(text("not_here"), text("not_registered"), text("waiting_more", { n: left }));
  else state.drawMissing(text("not_here"), text("no_such_job"), text("no_such_job_more"));
  showTake($("take"), { job_id: id });
}

function drawHead(job) {
  const { backend, created_at: created, workflow: named, group, labels = {} } = job;
  $("crumb-server").hidden = $("crumb-server").nextElementSibling.hidden = !backend;
  if (backend) setText($("crumb-server"), backend);
  const tags = [group, ...Object.entries(labels).map((label) => label.join("="))].filter(Boolean);
  const parts = [named, backend && [make("span", text("on_server"), { className: "muted" }), backend], created && make("span", text("sent", { time: words.day(Date.parse(created)) }), { className: "muted" }), ...tags];
  const key = [named, backend, created, ...tags].join();
  if ($("meta").shown === key) return;
  $("meta").shown = key;
  $("meta").replaceChildren(...parts.filter(Boolean).flat().map((part) => (typeof part === "string" ? make("span", part) : part)));
}

function drawActions(job, isForced = false) {
  const isOver = FINAL.has(job.status);
  const key = `${isOver} ${Boolean(job.prompt_id)} ${job.cancelling}`;
  if ($("acts").shown === key && !isForced) return;
  $("acts").shown = key;
  const buttons = [copyButton(() => jobPage(id), { label: text("copy_link"), symbol: "link" })];
  // Before the others, which keep their places at the right.
  if (isOver && workflow && Object.keys(workflow).length > 0) buttons.unshift(againButton());
  if (!isOver && job.prompt_id) {
    const bell = make("button", [icon("bell"), text("notify")], { type: "button", className: "btn", hidden: true });
    useBell(bell);
    buttons.unshift(bell);
    const cancel = cancelButton(id, "btn danger");
    drawCancel(cancel, job);
    buttons.push(cancel);
  }
  $("acts").replaceChildren(...buttons);
}

function againButton() {
  const button = make("button", [icon("again"), text("run_again")], { type: "button", className: "btn" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { job_id } = await request(jobPath(id, "/retry"), { method: "POST" });
      location.assign(jobPage(job_id));
    } catch (error) {
      button.disabled = false;
      button.title = error.message;
      say(text("run_again_failed", { reason: error.message }));
    }
  });
  return button;
}

function drawFault({ error, status, backend }) {
  $("fault").hidden = !error;
  if (!error || $("fault").shown === error) return;
  $("fault").shown = error;
  const [first] = error.split("\n");
  const whole = first === error && error.length < SHORT_ERROR ? "" : make("pre", error, { tabIndex: 0, ariaLabel: text("error_all"), role: "group" });
  const like = new URL(`history?status=${status}${backend ? `&backend=${encodeURIComponent(backend)}` : ""}`, BASE).href;
  $("fault").replaceChildren(
    make("h2", [icon("warn"), make("span", first)], { id: "h-fault" }),
    ...(whole ? [whole] : []),
    make("div", [copyButton(() => error, { label: text("copy_error") }), make("a", text("like_it"), { className: "btn", href: like })], { className: "acts" }),
  );
}
