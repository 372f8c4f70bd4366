// The relay's sockets. No dependencies:
//
//   const job = new JobSocket("my-job", { previews: true });      // or { server: "https://host/" }
//   job.addEventListener("progress", ({ detail }) => bar.value = detail.progress);
//   setInterval(() => label.textContent = remaining(newest, job.secondsLeft(newest)), 250);     // counts down
//   job.addEventListener("problem", ({ detail }) => console.warn(detail.code, detail.error));
//   job.addEventListener("preview", ({ detail }) => show(detail.blob));     // node, mime, seq, blob
//   job.addEventListener("state", ({ detail }) => label.textContent = detail.text);
//   job.connect();                                            // later: job.cancel(), job.close()
//
// If the relay requires tokens: new JobSocket("my-job", { token }), and job.renew(newer) before it expires; or a
// function as `token`, which returns one or a promise of one, and is called again before it expires.
//
// Events, with their `detail`:
//   state     {state: "connecting" | "open" | "waiting" | "closed", text, note?, code?, reason?, delay?}
//   unregistered  {job_id, message, job_wait}: nobody has registered the job; the relay waits so many seconds
//   progress  a job's state      problem  an `error` message      status  the monitor's message
//   preview   {job_id, node, mime, seq, blob}
//   raw       {out: boolean, text} or {out: false, header, size}: every message sent or received

export { closeText } from "./close_code.js";
export { duration, remaining } from "./duration.js";
export { jobIdProblem } from "./job_id.js";
export { JobSocket } from "./job_socket.js";
export { JobsSocket } from "./jobs_socket.js";
export { MonitorSocket } from "./monitor_socket.js";
export { FINAL } from "./status.js";
