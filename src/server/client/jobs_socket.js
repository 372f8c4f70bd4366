import { RelayConnection } from "./relay_connection.js";

/** Follows all jobs that are open or will be, and goes on when they have ended. */
export class JobsSocket extends RelayConnection {
  /** `options` are those of RelayConnection, and `previews`. */
  constructor({ previews = false, ...options } = {}) {
    super({ path: `ws/jobs${previews ? "?previews=1" : ""}`, streamPath: "api/anime/jobs/events", ...options });
  }
}
