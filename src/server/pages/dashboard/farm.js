// The farm: a lane for each server on one time axis, with one line for now.

import { axisAt, ticks } from "./axis.js";
import { REPORTED, servers } from "./backends.js";
import { relayNow } from "./clock.js";
import { make, setStyle, setText } from "./elements.js";
import { LaneView } from "./lane.js";
import { FINAL, drawNext, drawSoon } from "./store.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** With more servers than this, lanes are lower. */
const DENSE = 16;

/** Labels nearer to now than this, in percent of the axis, would lie below its label. */
const LABEL_GAP = 3.5;

/** How long one frame draws lanes, in milliseconds: the rest comes in the next ones. */
const BUDGET = 4;

/** The lane of jobs that wait and are planned on no server. */
const UNPLANNED = " ";

const $ = (id) => document.getElementById(id);
const lanes = new Map();
let minutes = 30;
let drawnAxis = "";
/** The width of a percent of the axis, in pixels. */
let pixels = 0;
/** Which lane is drawn next, if a frame could not draw all. */
let turn = 0;

new ResizeObserver(([{ contentRect }]) => {
  pixels = contentRect.width / 100;
  drawnAxis = "";
  drawSoon();
}).observe($("rules"));

/** Shows so many minutes. */
export function showMinutes(number) {
  minutes = number;
}

/** Draws the farm. Returns what the headline needs of each lane; `null` while the servers are not known. */
export function drawFarm(jobs) {
  const known = servers();
  if (!known || !pixels) return null;
  const now = relayNow();
  const axis = axisAt(now, minutes);
  const board = $("board");
  const byServer = new Map(known.map((server) => [server.name, { server, jobs: [] }]));
  for (const job of jobs.values()) {
    const name = job.backend ?? (job.waiting_for && !FINAL.has(job.status) ? UNPLANNED : REPORTED);
    if (!byServer.has(name) && name !== REPORTED) byServer.set(name, { server: { name, status: name === UNPLANNED ? "unplanned" : "connected" }, jobs: [] });
    byServer.get(name)?.jobs.push(job);
  }
  const names = shownNames([...byServer.keys()].filter((name) => name !== UNPLANNED));
  names.set(UNPLANNED, text("unplanned"));
  const isDense = byServer.size > DENSE;
  board.classList.toggle("dense", isDense);
  setText($("n-servers"), text("n_servers", { n: byServer.size - byServer.has(UNPLANNED) }));
  drawAxis(axis, now);
  // Not by a property of the board, which all its blocks would inherit.
  const line = Math.round(axis.place(now) * pixels);
  setStyle($("now"), "transform", `translateX(${line}px)`);
  setStyle($("past"), "transform", `scaleX(${line})`);
  setText($("now-text"), words.clock(Math.floor(now / 60_000) * 60_000));
  drawLanes(byServer, names, axis, now, isDense);
  if (lanes.size >= byServer.size) for (const skeleton of $("lanes").querySelectorAll(".skeleton")) skeleton.remove();
  for (const [name, lane] of lanes) {
    if (byServer.has(name)) continue;
    lane.element.remove();
    lanes.delete(name);
  }
  return [...lanes.values()].map(({ drawn }) => drawn).filter(Boolean);
}

/** Shows a lane in the place of what was sent for it with the page. */
function show(lane) {
  const skeleton = $("lanes").querySelector(".skeleton");
  if (skeleton) skeleton.replaceWith(lane.element);
  else $("lanes").append(lane.element);
}

/** Draws as many lanes as a frame has time for, all in turn. */
function drawLanes(byServer, names, axis, now, isDense) {
  const began = performance.now();
  const all = [...byServer];
  for (let drawn = 0; drawn < all.length; drawn += 1) {
    const [name, { server, jobs }] = all[turn % all.length];
    const isNew = !lanes.has(name);
    if (isNew) lanes.set(name, new LaneView());
    const lane = lanes.get(name);
    lane.drawn = lane.draw({ ...server, shown: names.get(name) }, jobs, axis, pixels, now, isDense);
    if (isNew) show(lane);
    turn += 1;
    if (performance.now() - began > BUDGET) return drawNext();
  }
}

/** What is the same in all names says nothing: `127.0.0.1:8188` and `127.0.0.1:8189` are shown whole, hosts without a port they share. */
function shownNames(names) {
  const port = /:\d+$/.exec(names[0] ?? "")?.[0];
  const isShared = port && names.every((name) => name.endsWith(port)) && new Set(names.map((name) => name.slice(0, -port.length))).size === names.length;
  return new Map(names.map((name) => [name, isShared ? name.slice(0, -port.length) : name]));
}

/** Labels and rules change only when the axis moves on. */
function drawAxis(axis, now) {
  const isPhone = matchMedia("(max-width: 640px)").matches;
  const hidden = isPhone ? 12 : LABEL_GAP;
  const labels = ticks(axis, axis.label).filter((moment) => {
    const place = axis.place(moment);
    return place > 2 && place < 97 && Math.abs(place - axis.place(now)) > hidden;
  });
  const key = `${labels} ${axis.start} ${axis.end}`;
  if (key === drawnAxis) return;
  drawnAxis = key;
  const at = (element, moment) => {
    element.style.left = `${axis.place(moment).toFixed(2)}%`;
    return element;
  };
  $("axis").replaceChildren(...labels.map((moment) => at(make("span", words.clock(moment)), moment)));
  const rules = ticks(axis, axis.rule).map((moment) => at(make("i", [], { className: ticks(axis, axis.label).includes(moment) ? "main" : "" }), moment));
  $("rules").replaceChildren(...rules);
}
