// The bar of a job. Its mark stands for 100 %, and the track fades over the interval in which the end will lie.

import { make, setAttribute, setStyle } from "./elements.js";
import { text } from "./texts.js";

/** Where the mark stands, in percent of the bar. The rest is room for the late half of the interval. */
const FULL = 94;

export class Rail {
  constructor(name) {
    this.element = make("div", make("i"), { className: "rail", role: "progressbar" });
    setAttribute(this.element, "aria-label", name ? text("progress_of", { name }) : text("progress"));
    setAttribute(this.element, "aria-valuemin", 0);
    setAttribute(this.element, "aria-valuemax", 100);
  }

  /** `left` is what the job has left; `said` what assistive technology says beside the number. */
  draw(job, left, said) {
    const state = { completed: "rail done", failed: "rail fail", cancelled: "rail off" }[job.status] ?? "rail";
    if (this.element.className !== state) this.element.className = state;
    setStyle(this.element, "--p", job.progress);
    // Without an interval the track fades from where the job is.
    let soft = job.progress;
    if (left) {
      const passed = Math.max(0, job.elapsed ?? 0);
      soft = (100 * (passed + left.low)) / (passed + left.left);
    }
    setStyle(this.element, "--soft", `${((Math.min(soft, 99) * FULL) / 100).toFixed(1)}%`);
    setAttribute(this.element, "aria-valuenow", job.progress);
    setAttribute(this.element, "aria-valuetext", said);
  }
}
