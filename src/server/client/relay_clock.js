/** The relay's clock may be slower than this one by this share: it is slewed if its wall clock was set. */
const MAX_SLEW = 0.1;

/** The relay's clock over one connection. That of the page may be set to any time: only its monotonic one counts. */
export class RelayClock {
  /** The relay's clock less the monotonic one, in milliseconds, and when it was compared. */
  #offset = -Infinity;
  #comparedAt = 0;

  /** Compares the clocks by a message that has come now. Messages are late, never early: the fastest one counts. */
  set(timestamp) {
    const now = performance.now();
    const slewed = this.#offset - MAX_SLEW * (now - this.#comparedAt);
    this.#offset = Math.max(Date.parse(timestamp) - now, slewed);
    this.#comparedAt = now;
  }

  /** The seconds until a job's `estimated_completion`, at least 0; undefined or null while it is unknown. */
  secondsLeft({ estimated_completion: moment, estimated_remaining }) {
    const left = Date.parse(moment) - this.#offset - performance.now();
    return Number.isFinite(left) ? Math.max(0, left / 1000) : estimated_remaining;
  }
}
