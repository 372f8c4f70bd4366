import { FINAL } from "./status.js";
import { SeenStates } from "./seen_states.js";
import { states } from "./states.js";

/**
 * One job that is followed over the socket of a ProgressHub. Dispatches `progress`, `complete`, `problem` and `end`, as
 * a tracker does; iterates over its states.
 */
export class JobSubscription extends EventTarget {
  /** The newest state of the job; null before the first. */
  newest = null;
  /** Why nothing more comes: {} at the end of the job, {error} where it can be followed no longer. */
  ended = null;
  #seen = new SeenStates();
  #clock = null;
  #leave;

  constructor(jobId, leave) {
    super();
    this.jobId = jobId;
    this.#leave = leave;
  }

  /** The seconds until the job ends, as of now; null or undefined while they are unknown. */
  secondsLeft() {
    return this.newest && this.#clock.secondsLeft(this.newest);
  }

  /** Follows the job no longer. */
  close() {
    if (this.ended) return;
    this.#end({});
    this.#leave(this);
  }

  [Symbol.asyncIterator]() {
    return states(this, () => this.close());
  }

  /** A state of the job, which has come over `connection`. */
  receive(message, connection) {
    if (this.ended || !this.#seen.add(message)) return;
    this.newest = message;
    this.#clock = connection;
    this.#emit("progress", message);
    if (message.status === "completed") this.#emit("complete", message.output_path);
    if (FINAL.has(message.status)) this.#end({});
  }

  receiveProblem(message) {
    this.#emit("problem", message);
  }

  /** The job can be followed no longer. */
  fail(error) {
    if (!this.ended) this.#end({ error });
  }

  #end(ended) {
    this.ended = ended;
    this.#emit("end", ended);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
