const MIN_DELAY = 500;
const MAX_DELAY = 10_000;

/** Exponential backoff with jitter: the clients of a restarted relay do not all reconnect at once. */
export class Backoff {
  #attempt = 0;

  /** The milliseconds until the next attempt. */
  next() {
    const ceiling = Math.min(MAX_DELAY, MIN_DELAY * 2 ** ++this.#attempt);
    return MIN_DELAY + Math.random() * (ceiling - MIN_DELAY);
  }

  reset() {
    this.#attempt = 0;
  }
}
