import { RelayConnection } from "./relay_connection.js";

/** Follows all jobs that are open or will be, and goes on when they have ended. */
export class JobsSocket extends RelayConnection {
  /** `options` are those of RelayConnection, `previews`, and `interval`: at most one state of each job in so many milliseconds. */
  constructor({ previews = false, interval = 0, ...options } = {}) {
    const spaced = interval ? [["interval_ms", interval]] : [];
    const path = withQuery("ws/jobs", previews ? [["previews", 1], ...spaced] : spaced);
    super({ path, streamPath: withQuery("api/anime/jobs/events", spaced), ...options });
  }
}

function withQuery(path, parameters) {
  return parameters.length ? `${path}?${new URLSearchParams(parameters)}` : path;
}
