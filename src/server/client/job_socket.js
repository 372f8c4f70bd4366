import { checkJobId } from "./job_id.js";
import { jobPath } from "./job_path.js";
import { RelayConnection } from "./relay_connection.js";
import { FINAL } from "./status.js";

/** Follows one job to its end. Throws a RangeError if `id` cannot be a job id. */
export class JobSocket extends RelayConnection {
  /** `options` are those of RelayConnection, and `previews`. */
  constructor(id, { previews = false, ...options } = {}) {
    const job = checkJobId(id);
    super({
      path: `ws/${encodeURIComponent(job)}${previews ? "?previews=1" : ""}`,
      streamPath: jobPath(job, "/events"),
      isLast: ({ status }) => FINAL.has(status),
      ...options,
    });
    this.id = job;
  }

  /** Cancels the job. False while there is no connection. */
  cancel() {
    return this.send({ type: "cancel" }) || this.post(jobPath(this.id, "/cancel"));
  }
}
