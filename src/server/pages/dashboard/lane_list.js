// The open jobs of a lane as a list, for a screen on which its blocks are too small to be pressed.

import { jobPage } from "./api.js";
import { blockTimes } from "./block.js";
import { make, setAttribute, setText } from "./elements.js";
import { text } from "./texts.js";

/** How many jobs it shows at most. */
const MOST = 50;

export class LaneList {
  #list = make("ol", [], { className: "lane-jobs", hidden: true });
  #shown = "";
  #lane;

  constructor() {
    this.button = make("button", [], { type: "button", className: "opens", onclick: () => this.#toggle() });
    setAttribute(this.button, "aria-expanded", false);
  }

  get element() {
    return this.#list;
  }

  /** What has ended is in the history. A job that waits without a time says why. */
  draw(name, lane) {
    setAttribute(this.button, "aria-label", text("lane_opens", { name }));
    this.#lane = lane;
    if (!this.#list.hidden) this.#drawRows();
  }

  #toggle() {
    this.#list.hidden = !this.#list.hidden;
    setAttribute(this.button, "aria-expanded", !this.#list.hidden);
    if (!this.#list.hidden) this.#drawRows();
  }

  #drawRows() {
    const { blocks, waiting } = this.#lane;
    const timed = blocks.filter(({ kind }) => kind !== "ended").map((block) => [block.job.job_id, blockTimes(block)]);
    const rows = [...timed, ...waiting.map(({ job_id: id, message }) => [id, message])].slice(0, MOST);
    const key = JSON.stringify(rows);
    if (key === this.#shown) return;
    this.#shown = key;
    this.#list.replaceChildren(...rows.map(([id, times]) => {
      const name = make("b", id, { className: "one" });
      return make("li", make("a", [name, make("span", times)], { href: jobPage(id) }));
    }));
    if (rows.length === 0) this.#list.append(make("li", text("nothing_waits"), { className: "muted" }));
  }
}
