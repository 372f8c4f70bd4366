import { FINAL } from "./status.js";

/** Which states of a job have come: a connection that was made again starts with one that may be known. */
export class SeenStates {
  #newest = null;

  /** Whether a state has not come yet. Remembers it. */
  add(message) {
    const newest = this.#newest;
    const isOlder = newest && message.seq <= newest.seq && message.timestamp <= newest.timestamp;
    const isKnownEnd = newest && FINAL.has(newest.status) && FINAL.has(message.status);
    if (isOlder || isKnownEnd) return false;
    this.#newest = message;
    return true;
  }

  clear() {
    this.#newest = null;
  }
}
