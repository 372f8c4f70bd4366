// One block of a lane: a job, or several that are too narrow to be told apart.

import { jobPage } from "./api.js";
import { icon, make, setStyle, setText, spoken } from "./elements.js";
import { timeLeft as leftOf } from "./store.js";
import { text } from "./texts.js";
import * as words from "./words.js";

/** The width of a letter, and of the space around a name, in pixels. */
const LETTER = 6.9;
const PADDING = 20;

/** From this width on, in pixels, a block also shows its workflow. */
const ROOM_FOR_MORE = 200;

/** A failed block shows its mark from this width on, in pixels. */
const ROOM_FOR_MARK = 22;

/** The name as far as there is room: all of it, the part that tells it from its neighbours, or none. */
function shownName(name, width) {
  const room = Math.floor((width - PADDING) / LETTER);
  const tail = name.replace(/^s\d+e\d+_/, "");
  if (tail.length <= room) return tail;
  const [shot] = /^[a-z]+\d+/.exec(tail) ?? [tail];
  if (shot.length <= room) return shot;
  return room >= 6 ? words.cut(tail, room) : "";
}

/** What assistive technology says of a block, and what its tip shows. */
export function described({ job, kind, from, to, softFrom = 0, softTo = 0, count }) {
  const name = job.job_id;
  if (count > 1) {
    const label = `${text("batch", { n: count })}, ${text("until", { time: words.clock(to) })}`;
    return { label, tip: { name: text("batch", { n: count }), rows: [["starts", words.clock(from)], ["ends", words.clock(to)]] } };
  }
  if (kind === "ended") {
    const took = words.exact(job.elapsed ?? (to - from) / 1000);
    const status = text(job.status);
    return { label: text("job_ended", { name, status, took }), tip: { name, more: job.error ?? status, rows: [["took", took], ["ended", words.clock(to)]] } };
  }
  const ends = words.clock(to) + words.plusMinus(softTo / 1000);
  const takes = words.about((to - from) / 1000);
  if (kind === "running") {
    const left = words.timeLeft(leftOf(job));
    const percent = words.percent(job.progress);
    return { label: text("job_running", { name, percent, left }), tip: { name, more: `${percent} · ${left}`, rows: [["takes", takes], ["ends", ends]] } };
  }
  const starts = words.clock(from) + words.plusMinus(softFrom / 1000);
  return { label: text("job_waiting", { name, time: words.clock(from) }), tip: { name, more: text("waiting"), rows: [["starts", starts], ["takes", takes], ["ends", ends]] } };
}

/** When an open job begins or how far it is, and how long it takes, in a few words. */
export function blockTimes({ job, kind, from, to }) {
  if (kind === "running") return `${words.percent(job.progress)} · ${words.timeLeft(leftOf(job))}`;
  return `${text("from", { time: words.clock(from) })} · ${words.about((to - from) / 1000)}`;
}

/** A block on the page. */
export class BlockView {
  #link = make("a", [], { tabIndex: -1 });
  /** As much of its name as there is room for; assistive technology reads the label. */
  #name = make("em", [], { ariaHidden: "true" });
  #more = make("small", [], { ariaHidden: "true" });
  #label = spoken("");
  #mark = null;
  /** What its words were made of. */
  #key = "";

  constructor(id) {
    this.#link.href = jobPage(id);
    this.element = make("li", this.#link, { className: "blk" });
    this.#link.append(this.#name, this.#more, this.#label);
    this.#link.block = this;
  }

  get link() {
    return this.#link;
  }

  /** What its tip shows. */
  get tip() {
    return described(this.block).tip;
  }

  /** `pixels` is the width of a percent of the axis. What cannot be seen to have changed is left alone. */
  draw(block, axis, pixels, now) {
    this.block = block;
    const { kind, from, to, softFrom, softTo, count = 1 } = block;
    const left = Math.round(axis.place(from) * pixels);
    const width = Math.max(0, Math.round(axis.place(to) * pixels) - left);
    const length = to - from || 1;
    // Moved by a transform, so that nothing is laid out again.
    setStyle(this.element, "transform", `translateX(${left}px)`);
    setStyle(this.element, "width", `${width}px`);
    const share = (part, whole) => `${Math.round((100 * part) / whole)}%`;
    setStyle(this.element, "--out-l", share(softFrom, length));
    setStyle(this.element, "--out-r", share(softTo, length));
    setStyle(this.element, "--fade-l", share(2 * softFrom, length + softFrom + softTo));
    setStyle(this.element, "--fade-r", share(2 * softTo, length + softFrom + softTo));
    if (kind === "running") setStyle(this.element, "--here", share(Math.min(now - from, length), length + softTo));
    if (count > 1) setStyle(this.element, "--n", Math.min(count, 99));
    this.#drawWords(block, width);
  }

  #drawWords(block, width) {
    const { job, kind, from, to, count = 1, ghost } = block;
    const minute = (moment) => Math.round(moment / 60_000);
    const key = [kind, job.status, count, ghost, width, minute(from), minute(to), kind === "running" && `${job.progress} ${Math.round(job.at / 1000)}`].join();
    if (key === this.#key) return;
    this.#key = key;
    const isBad = kind === "ended" && job.status === "failed";
    const names = ["blk", kind, isBad && "bad", kind === "ended" && job.status === "cancelled" && "off", count > 1 && "batch", ghost && "ghost"];
    const className = names.filter(Boolean).join(" ");
    if (this.element.className !== className) this.element.className = className;
    setText(this.#name, kind === "ended" ? "" : count > 1 ? (width > 60 ? text("batch", { n: count }) : "") : shownName(job.job_id, width));
    setText(this.#more, kind !== "ended" && width > ROOM_FOR_MORE ? job.workflow ?? "" : "");
    this.#showMark(isBad && width > ROOM_FOR_MARK);
    setText(this.#label, described(block).label);
  }

  #showMark(isShown) {
    if (isShown === (this.#mark !== null)) return;
    if (isShown) {
      this.#link.prepend((this.#mark = icon("cross")));
    } else {
      this.#mark.remove();
      this.#mark = null;
    }
  }
}
