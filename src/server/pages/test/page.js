// Shows the events of relay.js in the document. Text from messages is inserted as text, never as HTML.

import { make, setText } from "./elements.js";
import { Explanation } from "./explanation.js";
import { FINAL, JobSocket, MonitorSocket, duration, jobIdProblem, remaining } from "./relay.js";
import { askForToken, showToken, takeToken } from "./token.js";

/** How often the remaining time is drawn between two messages. */
const COUNT_INTERVAL = 250;

const server = new URL("./", location.href).href;
const $ = (id) => document.getElementById(id);
const token = takeToken();
showToken(token, describeToken);

/** The close code of a socket whose token is missing, wrong, or has expired. */
const UNAUTHENTICATED = 4401;

function describeToken({ sub, exp }) {
  const owner = sub ? `Token of ${sub}` : "Token without a name";
  return Number.isFinite(exp) ? `${owner}, until ${moment(new Date(exp * 1000))}` : owner;
}

function moment(date) {
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? time : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

function showConnection(element, { state, text, code, reason }) {
  element.dataset.state = state;
  element.title = code ? `Close code ${code}${reason ? `: ${reason}` : ""}` : "";
  setText(element, text);
}

// --- Messages ---------------------------------------------------------------------------------

const MAX_LINES = 500;
let pending = [];
let atEnd = true;

function log(source, direction, text) {
  if (source === "monitor" && !$("log-monitor").checked) return;
  const time = new Date();
  const clock = `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  pending.push(make("div", [
    make("time", clock, { dateTime: time.toISOString() }),
    make("span", direction, { className: "direction" }),
    make("span", source, { className: "source" }),
    make("code", text),
  ], { className: "entry" }));
  pending = pending.slice(-MAX_LINES);
  flushLog();
}

function flushLog() {
  const paused = $("log-pause").checked;
  $("log-pending").textContent = paused && pending.length ? ` (${pending.length} new)` : "";
  if (paused) return;
  const lines = $("log");
  lines.append(...pending);
  pending = [];
  while (lines.childElementCount > MAX_LINES) lines.firstElementChild.remove();
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

function logRaw(source, { out, text, header, size }) {
  if (text !== undefined) return log(source, out ? "→ sent" : "← received", text);
  const content = header ? JSON.stringify(header) : "unreadable";
  log(source, "← received", `binary, ${size} bytes: ${content}`);
}

$("log").addEventListener("scroll", ({ target }) => {
  atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 24;
});
$("log-pause").addEventListener("change", flushLog);
$("log-clear").addEventListener("click", () => {
  pending = [];
  atEnd = true;
  $("log").replaceChildren();
  flushLog();
});

// --- The job ----------------------------------------------------------------------------------

let job = null;
/** The newest state of the job; null while the page does not follow it. */
let newest = null;
/** What is said of the open connection, beside that it is open. */
let remark = "";
/** The timer that counts down how long the relay waits for the job. */
let waiting;
let previewUrl = null;
let shownOutputs = "";
const explanation = new Explanation($("why"), { server, token });

function connectJob(id) {
  job?.close();
  clearJob();
  $("job-id").value = id;
  const problem = jobIdProblem(id);
  if (problem) return showProblem(problem);
  openJob(id);
}

function openJob(id) {
  const socket = new JobSocket(id, { previews: $("previews").checked, server, token });
  const on = (name, handle) => socket.addEventListener(name, ({ detail }) => {
    if (socket === job) handle(detail);
  });
  on("state", showJobConnection);
  on("raw", (raw) => logRaw(id, raw));
  on("progress", showProgress);
  on("preview", showPreview);
  on("unregistered", ({ message, job_wait }) => waitForJob(message, job_wait));
  on("problem", ({ error, code }) => {
    waitForJob("");
    if (code === "unauthenticated") askForToken(error);
    else showProblem(`${error} (${code})`);
    showCancel(true, "Cancel job");
  });
  job = socket;
  job.connect();
}

function clearJob() {
  job = newest = null;
  explanation.clear();
  showProblem("");
  showPreview(null);
  $("progress").hidden = true;
  $("outputs").hidden = true;
  showConnection($("connection"), { state: "closed", text: "Not connected" });
}

function showJobConnection(connection) {
  const { state, text, note, code, reason } = connection;
  const open = state === "open";
  // No estimate is shown that is not live.
  if (!open) newest = null;
  clearInterval(waiting);
  waiting = undefined;
  countDown();
  if (code === UNAUTHENTICATED) askForToken();
  remark = note ? `. ${note}` : "";
  const shown = open ? `Connected to ${job.id}${remark}` : text;
  showConnection($("connection"), { ...connection, text: shown });
  const closed = code ? ` (${code}${reason ? `: ${reason}` : ""})` : "";
  log(job.id, "·", text + closed);
  $("disconnect").disabled = state === "closed";
  showCancel(open, "Cancel job");
}

function showCancel(enabled, text) {
  $("cancel").disabled = !enabled;
  setText($("cancel"), text);
}

function showProblem(text) {
  $("problem").hidden = !text;
  setText($("problem"), text);
}

/** Counts down how long the relay waits for a job that nobody has registered; an empty message ends that. */
function waitForJob(message, seconds) {
  clearInterval(waiting);
  if (waiting && !message) setText($("connection"), `Connected to ${job.id}${remark}`);
  waiting = undefined;
  if (!message) return;
  const until = performance.now() + seconds * 1000;
  const show = () => {
    const left = Math.max(0, Math.round((until - performance.now()) / 1000));
    setText($("connection"), message.replace(/\d+ s/, `${left} s`) + remark);
  };
  show();
  waiting = setInterval(show, 1000);
}

function showProgress(progress) {
  const { status, node, nodes } = progress;
  waitForJob("");
  $("progress").hidden = false;
  $("progress").dataset.status = status;
  $("bar").value = progress.progress;
  setText($("status"), status);
  setText($("percent"), `${progress.progress} %`);
  newest = progress;
  countDown();
  explanation.update(progress);
  setText($("message"), progress.message);
  $("cancel").hidden = FINAL.has(status);
  if (progress.error) showProblem(progress.error);
  showFacts({
    Node: node && nodeName(node),
    Step: node?.steps && `${node.step} of ${node.steps}`,
    Nodes: nodes && `${nodes.done} done, ${nodes.cached} cached, of ${nodes.total}`,
    Elapsed: progress.elapsed != null && duration(progress.elapsed),
    Queue: progress.queue_position > 0 && `position ${progress.queue_position}`,
    Backend: progress.backend,
    Prompt: progress.prompt_id,
  }, FINAL.has(status));
  showOutputs(progress.outputs ?? []);
}

function countDown() {
  setText($("eta"), newest ? remaining(newest, job.secondsLeft(newest)) : "");
}

setInterval(countDown, COUNT_INTERVAL);

function nodeName({ id, class_type, title }) {
  const name = title ?? class_type;
  const kind = title && class_type && title !== class_type ? `${class_type}, ` : "";
  return name ? `${name} (${kind}${id})` : id;
}

/** While the job runs, unknown facts are shown as “–”, so that the layout does not jump. */
function showFacts(facts, final) {
  const shown = Object.entries(facts).filter(([, value]) => value || !final);
  $("facts").replaceChildren(...shown.map(([name, value]) =>
    make("div", [make("dt", name), make("dd", value || "–")], { className: name.toLowerCase() })));
}

function showOutputs(outputs) {
  const text = JSON.stringify(outputs);
  $("outputs").hidden = outputs.length === 0;
  // New elements on every message would load the images again.
  if (text === shownOutputs) return;
  shownOutputs = text;
  if (token && outputs.length > 0) signOutputs(outputs, text);
  else drawOutputs(outputs);
}

function drawOutputs(outputs) {
  $("output-list").replaceChildren(...outputs.map(outputItem));
}

/** Where tokens are on, a browser opens a file by its signed link alone, which lists of outputs have, and states have not. */
async function signOutputs(outputs, text) {
  const list = new URL(`api/anime/jobs/${encodeURIComponent(job.id)}/outputs`, server);
  const response = await fetch(list, { headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
  const answer = response?.ok ? await response.json().catch(() => null) : null;
  if (text !== shownOutputs) return;
  const links = new Map(answer?.outputs.map(({ n, url }) => [String(n), url]));
  drawOutputs(outputs.map((output) => ({ ...output, url: links.get(output.url.split("/").at(-1)) ?? output.url })));
}

function outputItem({ kind, filename, subfolder, type, url, text }) {
  const path = text ?? (subfolder ? `${subfolder}/${filename}` : filename);
  const note = make("span", ` ${kind}${type === "output" ? "" : `, ${type}`}`, { className: "dim" });
  if (type === "text") return make("li", [path, note]);
  // The address in states begins at the root of the relay, which may be below the prefix of a proxy.
  const { href } = new URL(url.replace(/^\//, ""), server);
  const link = make("a", path, { href, target: "_blank", rel: "noopener" });
  if (/^(images|gifs)$/.test(kind) && /\.(png|jpe?g|webp|gif|avif|bmp)$/i.test(filename)) {
    const picture = make("img", [], { src: href, alt: "", loading: "lazy" });
    picture.addEventListener("error", () => picture.remove());
    link.prepend(picture);
  }
  return make("li", [link, note]);
}

function showPreview(preview) {
  if (previewUrl) URL.revokeObjectURL(previewUrl);
  previewUrl = preview && URL.createObjectURL(preview.blob);
  $("preview").hidden = !preview;
  if (!preview) return $("preview-image").removeAttribute("src");
  $("preview-image").src = previewUrl;
  setText($("preview-caption"), `Preview ${preview.seq}, node ${preview.node}, ${preview.mime}`);
}

/** Connects by changing the fragment of the URL, which can be copied then, and gone back to. */
function goTo(id) {
  const hash = `#job=${encodeURIComponent(id)}`;
  if (location.hash === hash) connectJob(id);
  else location.hash = hash;
}

function connectFromUrl() {
  const id = new URLSearchParams(location.hash.slice(1)).get("job");
  if (id) connectJob(id);
}

$("job-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("job-id").value.trim();
  const problem = jobIdProblem(id);
  if (problem) return showProblem(problem);
  goTo(id);
});
$("disconnect").addEventListener("click", () => {
  job?.close();
  history.replaceState(null, "", location.pathname + location.search);
});
$("cancel").addEventListener("click", () => {
  // ComfyUI may take seconds; the job's next state shows the result.
  if (job?.cancel()) showCancel(false, "Cancelling…");
});
$("previews").addEventListener("change", () => {
  if ($("disconnect").disabled) return;
  const { id } = job;
  job.close();
  showPreview(null);
  openJob(id);
});
window.addEventListener("hashchange", connectFromUrl);

// --- The monitor ------------------------------------------------------------------------------

const rows = new Map();
const monitor = new MonitorSocket({ server, token });

monitor.addEventListener("state", ({ detail }) => {
  showConnection($("monitor-connection"), detail);
  if (detail.code === UNAUTHENTICATED) askForToken();
});
monitor.addEventListener("problem", ({ detail: { code, error } }) => {
  if (code === "unauthenticated") askForToken(error);
});
monitor.addEventListener("raw", ({ detail }) => logRaw("monitor", detail));
monitor.addEventListener("status", ({ detail }) => {
  const { backends, jobs, websockets, recent_jobs } = detail;
  $("monitor-data").hidden = false;
  $("backends").replaceChildren(...backends.map(backendItem));
  const states = ["active", "queued", "completed", "failed", "cancelled"];
  setText($("counts"), `${jobs.total} in all: ${states.map((name) => `${jobs[name]} ${name}`).join(", ")}`);
  const { total_connections: sockets, jobs_with_connections: followed } = websockets;
  setText($("connections"), `${sockets}, to ${followed} ${followed === 1 ? "job" : "jobs"}`);
  showRecent(recent_jobs);
});

function backendItem({ name, url, connected, queue_remaining, version, unreachable_since: since }) {
  const away = since ? `not connected since ${clock(since)}` : "not connected";
  const facts = [connected ? "connected" : away];
  if (queue_remaining != null) facts.push(`queue ${queue_remaining}`);
  if (version) facts.push(`ComfyUI ${version}`);
  const state = make("span", facts.join(", "), { className: "state", title: url });
  state.dataset.state = connected ? "open" : "waiting";
  return make("li", [make("span", name, { className: "name" }), state]);
}

/** A moment in seconds since 1970, with its day if that is not today. */
function clock(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-GB")}, ${time}`;
}

/** A job keeps its row element while it is listed, so that the keyboard focus stays on it. */
function showRecent(jobs) {
  const listed = new Set(jobs.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (!listed.has(id)) row.remove(), rows.delete(id);
  }
  jobs.forEach((recent, index) => {
    const row = rows.get(recent.id) ?? newRow(recent);
    const [, status, progress] = row.cells;
    row.dataset.status = recent.status;
    setText(status.firstChild, recent.status);
    progress.firstChild.value = recent.progress;
    setText(progress.lastChild, remaining(recent) || `${recent.progress} %`);
    if ($("recent").children[index] !== row) $("recent").insertBefore(row, $("recent").children[index] ?? null);
  });
}

function newRow({ id, created_at }) {
  const since = new Date(created_at * 1000);
  const row = make("tr", [
    make("td", make("a", id, { href: `#job=${encodeURIComponent(id)}`, title: `Connect to ${id}` })),
    make("td", make("span", [], { className: "badge" })),
    make("td", [make("progress", [], { max: 100, ariaLabel: `Progress of ${id}` }), make("span", [], { className: "dim" })]),
    make("td", make("time", since.toLocaleTimeString("en-GB"), { dateTime: since.toISOString() })),
  ]);
  row.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    goTo(id);
  });
  rows.set(id, row);
  return row;
}

function switchMonitor() {
  if ($("monitor-on").checked) return monitor.connect();
  monitor.close();
  $("monitor-data").hidden = true;
  showConnection($("monitor-connection"), { state: "closed", text: "Off" });
}

$("monitor-on").addEventListener("change", switchMonitor);
switchMonitor();
connectFromUrl();
