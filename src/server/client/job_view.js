import { FINAL } from "./status.js";
import { AnimeProgressTracker } from "./tracker.js";

/** How often the remaining time is counted down between two messages. */
const COUNT_INTERVAL = 1_000;

/** What is shown of a job that is not followed yet. */
export const EMPTY_VIEW = Object.freeze({
  progress: 0, status: "pending", message: "", error: null, isConnected: false, eta: null, interval: null,
  preview: null, outputs: Object.freeze([]), outputPath: null, connection: "",
});

/** Everything that a page shows of a job, in one object that is replaced with every change. */
export class JobView {
  value = EMPTY_VIEW;
  #tracker;
  #changed;
  #startTimer;
  #countTimer;

  /** `changed(value)` gets each new value. The options are those of AnimeProgressTracker, and `server`. */
  constructor(jobId, { server, ...options }, changed) {
    this.#changed = changed;
    try {
      this.#tracker = new AnimeProgressTracker(jobId, server, options);
    } catch (error) {
      this.value = { ...EMPTY_VIEW, error: error.message };
      return;
    }
    // What a page shows is the page's own affair.
    this.#tracker.onProgressUpdate = () => {};
    const on = (name, handle) => this.#tracker.addEventListener(name, ({ detail }) => handle(detail));
    on("progress", (state) => this.#show(state));
    on("problem", ({ error }) => this.#change({ error }));
    on("preview", ({ blob }) => this.#showPreview(URL.createObjectURL(blob)));
    on("state", ({ state, text }) => this.#changeConnection(state === "open", text));
    on("end", ({ error }) => error && this.#change({ error }));
  }

  /** Follows the job. Not at once: a page that changes its mind in the same moment opens no socket. */
  start() {
    if (!this.#tracker) return this.#changed(this.value);
    this.#startTimer = setTimeout(() => this.#tracker.connect());
  }

  /** Follows the job no longer, and changes nothing more. */
  stop() {
    this.#changed = () => {};
    clearTimeout(this.#startTimer);
    clearInterval(this.#countTimer);
    this.#tracker?.disconnect();
    this.#showPreview(null);
  }

  cancel() {
    return this.#tracker?.cancel() ?? false;
  }

  /** Goes on with a newer token, also where an older one, or none, has ended the connection. */
  renew(token) {
    this.#tracker?.renew(token);
    if (this.#tracker?.ended?.error) this.#tracker.connect();
  }

  #show(state) {
    const { progress, status, message, error, estimated_low: low, estimated_high: high, outputs, output_path } = state;
    const isFinal = FINAL.has(status);
    this.#change({
      progress, status, message,
      error: error ?? null,
      eta: this.#secondsLeft(),
      interval: isFinal || low == null || high == null ? null : [low, high],
      outputs: outputs ?? EMPTY_VIEW.outputs,
      outputPath: output_path ?? null,
    });
    clearInterval(this.#countTimer);
    if (!isFinal) this.#countTimer = setInterval(() => this.#count(), COUNT_INTERVAL);
  }

  #count() {
    const eta = this.#secondsLeft();
    if (eta !== this.value.eta) this.#change({ eta });
  }

  /** Without a connection nobody knows what is left. */
  #changeConnection(isConnected, connection) {
    this.value = { ...this.value, isConnected };
    this.#change({ connection, eta: this.#secondsLeft(), ...(isConnected ? {} : { interval: null }) });
  }

  #secondsLeft() {
    if (!this.value.isConnected || !this.#tracker.newest) return null;
    const left = FINAL.has(this.#tracker.newest.status) ? null : this.#tracker.secondsLeft();
    return left == null ? null : Math.round(left);
  }

  #showPreview(preview) {
    if (this.value.preview) URL.revokeObjectURL(this.value.preview);
    this.#change({ preview });
  }

  #change(changes) {
    this.value = { ...this.value, ...changes };
    this.#changed(this.value);
  }
}
