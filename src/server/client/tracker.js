import { checkJobId } from "./job_id.js";
import { JobSocket } from "./job_socket.js";
import { SeenStates } from "./seen_states.js";
import { states } from "./states.js";
import { FINAL } from "./status.js";

/**
 * Follows one job. Override the methods `on…`, or listen to events, or iterate:
 *
 *   const tracker = new AnimeProgressTracker("shot-12", "ws://127.0.0.1:8328");
 *   for await (const state of tracker) bar.value = state.progress;
 *
 * Events: `progress` (a state), `complete` (the path of the output), `problem` (an `error` message), `preview`,
 * `state` (the connection), and `end` ({error} where the job can be followed no longer), each with its `detail`.
 */
export class AnimeProgressTracker extends EventTarget {
  /** The newest state of the job; null before the first. */
  newest = null;
  /** Why nothing more comes: {} at the end of the job, {error} where it can be followed no longer. */
  ended = null;
  /** The socket; null while there is none. */
  websocket = null;
  reconnectAttempts = 0;
  /** After so many attempts in a row without a connection the tracker gives up. */
  maxReconnectAttempts = Infinity;
  #connection;
  #seen = new SeenStates();
  #problem;

  /** `options`: `token` (a text, or a function that returns one or a promise of one), `previews`, `WebSocket`. */
  constructor(jobId, serverUrl, options = {}) {
    super();
    this.jobId = checkJobId(jobId);
    this.#connection = new JobSocket(this.jobId, { ...options, server: serverUrl, retry: () => this.attemptReconnect() });
    this.wsUrl = this.#connection.url.href;
    const on = (name, handle) => this.#connection.addEventListener(name, ({ detail }) => handle(detail));
    on("state", (state) => this.#showState(state));
    on("progress", (message) => this.#receive(message));
    on("preview", (preview) => this.#emit("preview", preview));
    on("problem", (message) => {
      this.#problem = message.error;
      this.onError(message);
      this.#emit("problem", message);
    });
  }

  /** How the connection is: {state: "connecting" | "open" | "waiting" | "closed", text, …}. */
  get state() {
    return this.#connection.state;
  }

  connect() {
    if (this.ended) {
      this.ended = null;
      this.#seen.clear();
    }
    this.#problem = undefined;
    this.#connection.url = this.wsUrl;
    this.#connection.connect();
    this.websocket = this.#connection.socket;
  }

  disconnect() {
    this.#connection.close();
  }

  /** Cancels the job. False while there is no connection. */
  cancel() {
    return this.#connection.cancel();
  }

  /** Goes on with a newer token of the same user. */
  renew(token) {
    return this.#connection.renew(token);
  }

  /** The seconds until the job ends, as of now; null or undefined while they are unknown. */
  secondsLeft() {
    return this.newest && this.#connection.secondsLeft(this.newest);
  }

  /** A state of the job. A subclass that overrides this calls onComplete(). By default it fills #progress and #status, if there. */
  onProgressUpdate(data) {
    const find = (id) => globalThis.document?.getElementById(id);
    const [bar, status] = [find("progress"), find("status")];
    if (bar) bar.style.width = `${data.progress}%`;
    if (status) status.textContent = `${data.status} - ${data.message}`;
    if (data.status === "completed") this.onComplete(data.output_path);
  }

  /** The job has completed. */
  onComplete(_outputPath) {}

  /** The job has failed, or cannot be followed: `data.error` says why. */
  onError(_data) {}

  /** The connection has changed: see `state`. */
  onStateChange(_state) {}

  /** The connection was lost. Connects again after a pause that grows. */
  attemptReconnect() {
    if (this.reconnectAttempts >= this.maxReconnectAttempts) return;
    this.reconnectAttempts += 1;
    this.#connection.reconnectLater(() => this.connect());
  }

  /** The states until the job's end. Connects, and disconnects when the reader leaves. */
  [Symbol.asyncIterator]() {
    if (!this.ended && this.state.state === "closed") this.connect();
    return states(this, () => this.disconnect());
  }

  #receive(message) {
    if (!this.#seen.add(message)) return;
    this.newest = message;
    this.onProgressUpdate(message);
    this.#emit("progress", message);
    if (message.status === "completed") this.#emit("complete", message.output_path);
  }

  #showState(state) {
    this.websocket = this.#connection.socket;
    if (state.state === "open") this.reconnectAttempts = 0;
    this.onStateChange(state);
    this.#emit("state", state);
    if (state.state !== "closed") return;
    const isOver = this.newest && FINAL.has(this.newest.status);
    this.ended = isOver || state.code === 1000 ? {} : { error: this.#problem ?? state.text };
    this.#emit("end", this.ended);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
