// The nodes of a job on its own time axis: how long each took, and what was predicted.

import { icon, make, setAttribute, setIcon, setStyle, setText } from "./elements.js";
import { FINAL, timeLeft } from "./store.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** How many rows are shown. */
const MAX_ROWS = 60;

/** How many labels the axis has at most. */
const LABELS = 8;

/** The steps between labels, in seconds. */
const STEPS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];

const ICONS = { finished: "check", running: "play", failed: "cross", interrupted: "stop" };
const $ = (id) => document.getElementById(id);
const rows = new Map();

/** Lays the nodes out: when each began, or will, by the speed of this job. */
function laidOut(explained, job) {
  const speed = explained.speed?.job ?? explained.speed?.machine ?? 1;
  const isOver = FINAL.has(job.status);
  let next = 0;
  const shown = explained.nodes.slice(0, MAX_ROWS).map((node) => {
    const from = node.began ?? next;
    const took = node.took ?? 0;
    // What was predicted of a node that began contains the speed that the job turned out to have only while it runs.
    const predicted = node.predicted == null ? null : node.predicted * (node.began == null ? speed : 1);
    const left = isOver ? 0 : node.left ?? 0;
    const to = node.state === "cached" || node.state === "not_run" ? next : from + Math.max(took, 0) + (node.began == null ? left || (isOver ? 0 : predicted ?? 0) : left);
    next = Math.max(next, to);
    return { ...node, from, to, took, predicted, left };
  });
  return { shown, end: Math.max(next, 1) };
}

/** Draws them. */
export function drawWaterfall(explained, job) {
  const section = $("nodes");
  section.hidden = !explained?.nodes?.length;
  if (section.hidden) return;
  const { shown, end } = laidOut(explained, job);
  const left = timeLeft(job);
  const isOver = FINAL.has(job.status);
  const elapsed = job.status === "processing" ? secondsSince(job) : null;
  const last = job.status === "processing" && left ? elapsed + left.high : 0;
  const width = Math.max(end, last, ...shown.map((node) => node.from + (node.predicted ?? 0) * (isOver || node.state === "waiting" ? 0 : 1))) * 1.04;
  const place = (seconds) => `${Math.min(100, (100 * seconds) / width).toFixed(2)}%`;
  drawAxis(width, place, elapsed);
  drawNow(elapsed, left, place, width);
  const gone = new Set(rows.keys());
  shown.forEach((node, index) => {
    gone.delete(node.id);
    let row = rows.get(node.id);
    if (!row) rows.set(node.id, (row = new Row()));
    const current = $("fall-rows").children[index];
    if (current !== row.element) $("fall-rows").insertBefore(row.element, current ?? null);
    row.draw(node, place, isOver);
  });
  for (const id of gone) {
    rows.get(id).element.remove();
    rows.delete(id);
  }
  const cached = shown.filter(({ state }) => state === "cached").length;
  const done = shown.filter(({ state }) => state === "cached" || state === "finished").length;
  const parts = [text("nodes_done", { done, all: explained.nodes.length })];
  if (cached) parts.push(text("nodes_cached", { n: cached }));
  setText($("n-nodes"), parts.join(", "));
}

function secondsSince({ began }) {
  return began ? Math.max(0, (relayMoment() - began) / 1000) : 0;
}

let relayMoment = Date.now;

/** Uses the relay's clock. */
export function useClock(now) {
  relayMoment = now;
}

function drawAxis(width, place, elapsed) {
  const step = STEPS.find((step) => width / step <= LABELS) ?? width / LABELS;
  const marks = Array.from({ length: Math.floor(width / step) + 1 }, (_, index) => index * step);
  const key = marks.map(place).join();
  if ($("fall-axis").shown !== key) {
    $("fall-axis").shown = key;
    $("fall-axis").replaceChildren(...marks.map((mark) => at(make("span", words.mark(mark)), place(mark))));
    $("fall-rules").replaceChildren(...marks.map((mark) => at(make("i", [], { className: "main" }), place(mark))));
  }
  marks.forEach((mark, index) => {
    const isHidden = (elapsed != null && Math.abs(mark - elapsed) < width * 0.07) || mark > width * 0.98;
    $("fall-axis").children[index].style.visibility = isHidden ? "hidden" : "";
  });
}

function at(element, left) {
  element.style.left = left;
  return element;
}

function drawNow(elapsed, left, place, width) {
  $("fall-now").hidden = elapsed == null;
  $("endzone").hidden = elapsed == null || !left;
  if (elapsed == null) return;
  const pixels = $("fall-rules").clientWidth / width;
  setStyle($("fall-now"), "transform", `translateX(${Math.round(elapsed * pixels)}px)`);
  setText($("fall-now-text"), words.mark(Math.floor(elapsed)));
  if (!left) return;
  setStyle($("endzone"), "--from", place(elapsed + left.low));
  setStyle($("endzone"), "--width", place(Math.max(left.high - left.low, width / 100)));
}

/** What a node is called. One that was made at run time has no name. */
export function named({ title, class_type: kind, id }) {
  return title ?? kind ?? text("node", { id });
}

class Row {
  #icon = icon("dot");
  #name = make("span", [], { className: "one" });
  #class = make("small", [], { className: "one" });
  #predicted = make("i", [], { className: "pred" });
  #took = make("i", [], { className: "act" });
  #left = make("i", [], { className: "soft" });
  #hit = make("span", text("from_cache"), { className: "hit" });
  #number = make("span");
  #state = make("span", [], { className: "sr" });

  constructor() {
    this.element = make("li", [
      make("div", [this.#icon, this.#name, this.#class], { className: "lab" }),
      make("div", [this.#predicted, this.#left, this.#took, this.#hit], { className: "bars", ariaHidden: "true" }),
      make("div", [this.#number, this.#state], { className: "num" }),
    ], { className: "nd" });
  }

  draw(node, place, isOver) {
    const { id, class_type: kind, from, took, predicted, left } = node;
    const state = node.state ?? "finished";
    setAttribute(this.element, "data-s", state);
    setIcon(this.#icon, ICONS[state] ?? "dot");
    const name = named(node);
    setText(this.#name, name);
    setAttribute(this.#name, "title", `${name} (${id})`);
    setText(this.#class, kind && !name.replaceAll(" ", "").startsWith(kind.slice(0, 8)) ? kind : "");
    const hasTook = took > 0 && state !== "cached";
    this.#hit.hidden = state !== "cached";
    this.#bar(this.#predicted, state !== "cached" && predicted != null, place(from), place(predicted ?? 0));
    this.#bar(this.#took, hasTook, place(from), place(took));
    this.#bar(this.#left, state === "running" && left > 0, place(from + took), place(left));
    setText(this.#number, said(node, state, isOver));
    setText(this.#state, `, ${text(`s_${state}`)}`);
  }

  #bar(bar, isShown, left, width) {
    bar.hidden = !isShown;
    if (!isShown) return;
    setStyle(bar, "left", left);
    setStyle(bar, "width", width);
  }
}

function said({ took, predicted, left }, state, isOver) {
  if (state === "cached") return text("cached");
  if (state === "failed") return text("failed_after", { time: words.exact(took) });
  if (state === "interrupted") return text("interrupted", { time: words.exact(took) });
  if (state === "not_run" || (isOver && state === "waiting")) return text("not_reached");
  if (state === "waiting") return predicted == null ? "–" : words.about(left || predicted);
  return predicted == null ? words.exact(took) : `${words.exact(took)} ${text("of_time", { time: words.predicted(predicted) })}`;
}
