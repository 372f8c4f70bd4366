// Draws why the estimate of a job is what it is: each node's prediction beside what it took.

import { make } from "./elements.js";
import { FINAL, duration } from "./relay.js";

/** How often the explanation of a running job is loaded again, in milliseconds. */
const RELOAD = 2_000;
/** The most nodes that get a row of their own: the longest ones. */
const MAX_ROWS = 40;
/** A node that is shorter than this share of the longest one gets none. */
const MIN_SHARE = 0.01;
/** A node that takes so many times as long as predicted, and so many seconds longer, is marked. */
const LATE = { times: 1.25, seconds: 0.3 };

const WORKFLOW = {
  known: "A known workflow: each of its nodes has run before in the same size.",
  first_time: "A first-time workflow: some of its nodes have not run before in the same size.",
  no_graph: "The graph of this job was not known when it began.",
};

const SOURCES = {
  class: "of other sizes or steps",
  other_backend: "on another server",
  role: "of nodes of the same kind",
};

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Seconds of the past as text: exact to a tenth while they are few. */
function exact(seconds) {
  if (seconds >= 59.5) return duration(seconds);
  if (seconds < 0.05) return "<\u00a00.1\u00a0s";
  return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)}\u00a0s`;
}

function factor(value) {
  return `${value.toFixed(2)}\u00a0×\u00a0predicted`;
}

function range({ remaining, low, high }) {
  if (remaining == null) return "not known";
  const interval = low == null ? "" : ` (${exact(low)} to ${exact(high)})`;
  return exact(remaining) + interval;
}

/** The text and the bars in a `details` element. They are loaded only while it is open. */
export class Explanation {
  #details;
  #content;
  #server;
  #token;
  #job = null;
  #isFinal = false;
  #isLoading = false;
  #loadedAt = -Infinity;
  #timer;

  constructor(details, { server, token }) {
    this.#details = details;
    this.#content = details.querySelector("div");
    this.#server = server;
    this.#token = token;
    details.addEventListener("toggle", () => this.#load());
  }

  /** Shows nothing of the job that was shown. */
  clear() {
    clearTimeout(this.#timer);
    this.#job = null;
    this.#details.open = false;
    this.#content.replaceChildren();
  }

  /** The job has a new state. */
  update({ job_id, status }) {
    const isFinal = FINAL.has(status);
    if (job_id !== this.#job || isFinal !== this.#isFinal) this.#loadedAt = -Infinity;
    this.#job = job_id;
    this.#isFinal = isFinal;
    const due = this.#loadedAt + RELOAD - performance.now();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), Math.max(0, due));
  }

  async #load() {
    const job = this.#job;
    if (!this.#details.open || !job || this.#isLoading) return;
    this.#isLoading = true;
    this.#loadedAt = performance.now();
    const wasFinal = this.#isFinal;
    const content = await this.#draw(job);
    this.#isLoading = false;
    if (job === this.#job) this.#content.replaceChildren(...content);
    if (job !== this.#job || wasFinal !== this.#isFinal) this.#load();
  }

  async #draw(job) {
    try {
      const url = new URL(`api/anime/jobs/${encodeURIComponent(job)}/estimate`, this.#server);
      const headers = this.#token ? { authorization: `Bearer ${this.#token}` } : {};
      const response = await fetch(url, { headers });
      const answer = await response.json();
      return response.ok ? draw(answer) : [make("p", answer.error.message, { className: "problem" })];
    } catch {
      return [make("p", "The relay does not answer.", { className: "problem" })];
    }
  }
}

function draw(answer) {
  const { familiarity, is_guess, nodes, status } = answer;
  const cached = nodes.filter(({ state }) => state === "cached").length;
  const text = [
    WORKFLOW[familiarity],
    is_guess && `Most of its time ${FINAL.has(status) ? "was" : "is"} a guess: nothing alike has run.`,
    cached && `${count(cached, "node")} need${cached === 1 ? "s" : ""} not run: cached.`,
    nodes.length === 0 && "Nothing is known of its nodes.",
  ];
  const parts = [make("p", text.filter(Boolean).join(" ")), facts(answer)];
  const ran = nodes.filter(({ state }) => state !== "cached");
  if (ran.length) parts.push(table(ran));
  return parts;
}

function facts({ at_start: start, speed, elapsed, status }) {
  const known = {
    "Predicted at its start": start && range(start),
    [FINAL.has(status) ? "Took" : "Has taken"]: elapsed != null && exact(elapsed),
    "Pace of this job": speed && factor(speed.job),
    "Pace of the machine": speed && factor(speed.machine),
    "Changed for good": speed && Math.abs(speed.shift - 1) > 0.02 && `× ${speed.shift.toFixed(2)}`,
    "Usual error of a node": speed && `±\u00a0${Math.round(speed.interval_width * 100)}\u00a0%`,
  };
  const shown = Object.entries(known).filter(([, value]) => value);
  return make("dl", shown.map(([name, value]) => make("div", [make("dt", name), make("dd", value)])));
}

function longest({ predicted, took, left }) {
  return Math.max(predicted ?? 0, (took ?? 0) + (took == null ? 0 : left ?? 0));
}

function table(nodes) {
  const bySeconds = nodes.toSorted((a, b) => longest(b) - longest(a));
  const scale = longest(bySeconds[0]) || 1;
  const shown = new Set(bySeconds.slice(0, MAX_ROWS).filter((node) => longest(node) >= MIN_SHARE * scale));
  const rest = nodes.length - shown.size;
  return make("table", [
    make("caption", [
      make("span", "took", { className: "key took" }),
      make("span", "predicted", { className: "key predicted" }),
      make("span", "longer than predicted", { className: "key over" }),
    ]),
    make("thead", make("tr", ["Node", "Took", "Predicted"].map((name) => make("th", name, { scope: "col" })))),
    make("tbody", nodes.filter((node) => shown.has(node)).map((node) => row(node, scale))),
    rest ? make("tfoot", make("tr", make("td", `and ${count(rest, "shorter node")}`, { colSpan: 3 }))) : "",
  ]);
}

function row(node, scale) {
  const { id, class_type, title, state, predicted, took, cold } = node;
  const name = title ?? class_type ?? `Node ${id}`;
  const note = [alike(name, class_type) ? "" : class_type, source(node), steps(node), cold && "cold"];
  const line = make("tr", [
    make("th", [
      make("span", name, { className: "name", title: `Node ${id}` }),
      make("span", note.filter(Boolean).join(" · "), { className: "note dim" }),
      bars(node, scale),
    ], { scope: "row" }),
    make("td", took == null ? state === "waiting" ? "waits" : state === "not_run" ? "not run" : "–" : exact(took)),
    make("td", predicted == null ? "–" : exact(predicted)),
  ]);
  line.dataset.state = state ?? "";
  return line;
}

/** Whether a title only repeats the class: “CLIP Text Encode (Prompt)”. */
function alike(title, class_type) {
  const letters = (text) => (text ?? "").toLowerCase().replace(/[^a-z0-9]/g, "");
  return letters(title).startsWith(letters(class_type));
}

function source({ source: kind, runs, scaled_by }) {
  if (kind === "table") return "guess";
  if (!kind) return "";
  const scaled = scaled_by === "calls" ? ", of unknown size" : "";
  return `${count(runs, "run")}${SOURCES[kind] ? ` ${SOURCES[kind]}` : ""}${scaled}`;
}

function steps({ steps: expected, steps_seen: seen, state }) {
  if (state !== "running" || !(expected >= 2) || seen == null) return "";
  return `step ${Math.floor(seen)} of ${Math.max(Math.round(expected), Math.floor(seen))}`;
}

/** Decoration: the numbers beside it say the same. */
function bars({ predicted, took, left, state }, scale) {
  const element = make("span", [], { className: "bars", ariaHidden: "true" });
  const bar = (name, from, to) => {
    const part = make("span", [], { className: name });
    part.style.left = `${(100 * from) / scale}%`;
    part.style.width = `${(100 * Math.max(0, to - from)) / scale}%`;
    element.append(part);
  };
  if (predicted != null) bar("predicted", 0, predicted);
  if (took == null) return element;
  const isLate = predicted != null && took > predicted * LATE.times && took > predicted + LATE.seconds;
  bar("took", 0, isLate ? predicted : took);
  if (isLate) bar("over", predicted, took);
  if (state === "running" && left) bar("left", took, took + left);
  return element;
}
