// The lane of one server: who it is, until when it is busy, and its blocks.

import { BlockView } from "./block.js";
import { icon, make, setAttribute, setIcon, setText } from "./elements.js";
import { LaneList } from "./lane_list.js";
import { mayOperate, operateButton, verbs } from "./operate.js";
import { text } from "./texts.js";
import { timeline } from "./timeline.js";
import * as words from "./words.js";

/** From this many failures in a row on, somebody should look. */
const SICK = 3;

/** Neighbouring blocks narrower than this, in pixels, are drawn as one. */
const NARROW = 3;

const ICONS = { busy: "dot", idle: "check", held: "pause", sick: "warn", away: "away", warn: "warn" };

/** What a server is at this moment: `{state, words, short}`. */
function condition(server, jobs, lane) {
  if (server.status === "unreachable") {
    // Until the first attempt has failed, nothing says since when.
    if (!server.unreachable_since) return { state: "held", words: text("connecting") };
    return { state: "away", words: text("unreachable", { time: words.clock(Date.parse(server.unreachable_since)) }) };
  }
  if (server.status === "held_elsewhere") return { state: "held", words: text("held_elsewhere") };
  if (server.status === "stalled" || server.status === "sick") return { state: "sick", words: text(server.status) };
  if (server.status === "contested") return { state: "warn", words: text("contested") };
  if (server.status === "unplanned") return { state: "held", words: jobs[0]?.message ?? "" };
  const ended = jobs.filter((job) => job.endedAt).sort((a, b) => b.endedAt - a.endedAt);
  const failures = ended.findIndex((job) => job.status !== "failed");
  const inARow = failures === -1 ? ended.length : failures;
  const isBusy = jobs.length > ended.length;
  if (server.operation) {
    const until = isBusy && lane.until ? ` · ${text("until", { time: words.clock(lane.until) })}` : "";
    return { state: "held", words: text(server.operation) + until };
  }
  if (inARow >= SICK) return { state: "sick", words: [text("failing", { n: inARow }), lane.until && text("until", { time: words.clock(lane.until) })].filter(Boolean).join(" · ") };
  if (isBusy && lane.until) {
    const time = words.clock(lane.until);
    return { state: "busy", words: text("busy_until", { time }) + words.plusMinus(lane.spread), short: text("until", { time }) };
  }
  if (isBusy) return { state: "busy", words: text("busy") };
  if (server.queue_running > 0 || server.queue_pending > 0) return { state: "busy", words: text("others") };
  if (ended.length > 0) return { state: "idle", words: text("idle_since", { time: words.clock(ended[0].endedAt) }) };
  return { state: "idle", words: text("idle") };
}

/** Blocks that can be seen; those too narrow to be told apart become one. */
function visible(blocks, axis, pixels) {
  const shown = [];
  for (const block of blocks) {
    if (block.to < axis.start || block.from > axis.end) continue;
    const width = (axis.place(block.to) - axis.place(block.from)) * pixels;
    const before = shown.at(-1);
    const isAlike = before && before.kind === block.kind && before.kind !== "running" && before.job.status === block.job.status;
    if (isAlike && width < NARROW && before.isNarrow) {
      Object.assign(before, { to: block.to, softTo: block.softTo, count: (before.count ?? 1) + 1 });
    } else {
      shown.push({ ...block, isNarrow: width < NARROW });
    }
  }
  return shown;
}

/** A lane on the page. */
export class LaneView {
  #name = make("b", [], { className: "one" });
  #icon = icon("check");
  #words = make("span", [], { className: "one" });
  #blocks = make("ol");
  #more = make("span", [], { className: "more" });
  #views = new Map();
  #list = new LaneList();
  #buttons = make("span", [], { className: "operate" });

  constructor() {
    const until = make("span", [this.#icon, this.#words], { className: "until" });
    this.element = make("li", [
      make("div", [this.#name, until, this.#buttons], { className: "who" }),
      make("div", [this.#blocks, this.#more], { className: "track" }),
      this.#list.button,
      this.#list.element,
    ], { className: "lane" });
  }

  /** Returns `{until, spread, unknown, state}` for the headline. */
  draw(server, jobs, axis, pixels, now, isDense) {
    const lane = timeline(jobs, now);
    const { state, words: said, short } = condition(server, jobs, lane);
    const isAway = state === "away";
    setAttribute(this.element, "data-state", state);
    setText(this.#name, server.shown);
    setAttribute(this.#name, "title", server.name);
    setText(this.#words, isDense ? short ?? said : said);
    setAttribute(this.#words, "title", server.reason ?? null);
    setIcon(this.#icon, ICONS[state]);
    const open = jobs.filter((job) => !job.endedAt).length;
    setAttribute(this.#blocks, "aria-label", text("lane_jobs", { name: server.shown, n: open }));
    const shown = visible(lane.blocks, axis, pixels);
    if (isAway) for (const block of shown) block.ghost = block.kind !== "ended";
    this.#drawBlocks(shown, axis, pixels, now);
    this.#drawMore(lane, axis);
    this.#drawButtons(server, isDense);
    this.#list.draw(server.shown, lane);
    return { ...lane, state, isBusy: open > 0 };
  }

  /** One that was stopped can be resumed here; to stop one, its lane is pointed at. */
  #drawButtons(server, isDense) {
    const verb = mayOperate && !isDense && server.queue_running != null ? verbs(server)[0] : "";
    if (this.#buttons.dataset.verb === verb) return;
    this.#buttons.dataset.verb = verb;
    this.#buttons.replaceChildren(verb && operateButton(verb, server.name, "btn quiet icon"));
  }

  #drawBlocks(shown, axis, pixels, now) {
    const gone = new Set(this.#views.keys());
    let before = null;
    for (const block of shown) {
      const id = block.job.job_id;
      gone.delete(id);
      let view = this.#views.get(id);
      if (!view) this.#views.set(id, (view = new BlockView(id)));
      const next = before ? before.nextElementSibling : this.#blocks.firstElementChild;
      if (next !== view.element) this.#blocks.insertBefore(view.element, next);
      view.draw(block, axis, pixels, now);
      before = view.element;
    }
    for (const id of gone) {
      const view = this.#views.get(id);
      if (view.link === document.activeElement) continue;
      view.element.remove();
      this.#views.delete(id);
    }
    // A lane is one stop of the tabulator: its running job, or its first block.
    if (this.#blocks.contains(document.activeElement)) return;
    const links = shown.map((block) => [block, this.#views.get(block.job.job_id).link]);
    const stop = links.find(([block]) => block.kind !== "ended") ?? links.at(-1);
    for (const [, link] of links) link.tabIndex = link === stop?.[1] ? 0 : -1;
  }

  #drawMore({ blocks, until, unknown, waiting }, axis) {
    const later = blocks.filter((block) => block.from > axis.end).length;
    let said = "";
    if (until > axis.end) said = later > 0 ? text("later", { n: later, time: words.clock(until) }) : text("until", { time: words.clock(until) });
    if (unknown > 0) said = [said, text("unknown_later", { n: unknown })].filter(Boolean).join(" · ");
    setAttribute(this.#more, "title", waiting[0]?.message);
    setText(this.#more, said);
    this.#more.hidden = said === "";
  }
}
