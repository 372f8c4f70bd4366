import { Backoff } from "./backoff.js";
import { closeText } from "./close_code.js";
import { JobSocket } from "./job_socket.js";
import { RelayAddress } from "./relay_address.js";
import { RelayConnection } from "./relay_connection.js";
import { FINAL } from "./status.js";

/** The most jobs that the relay takes on one socket. */
const MAX_JOBS = 100;

/** The codes of `error` messages after which nothing more comes of a job. */
const REFUSALS = new Set(["bad_job_id", "forbidden", "job_not_found", "too_many_subscriptions"]);

/** The codes of `error` messages with which the relay ends a subscription, because it could not look for the job. */
const PASSING = new Set(["backend_unreachable", "backend_error", "backend_held_elsewhere", "database_unreachable", "too_many_requests"]);

/**
 * Several jobs on one socket. Where no socket can be opened, an event stream for each. `listener` has
 * `progress(message, connection)`, `problem(message)`, `refused(jobId, error)` and `state(state)`.
 */
export class HubSocket {
  #options;
  #listener;
  /** The jobs that have not ended. */
  #jobs = new Set();
  #connection = null;
  /** The job that the address of the socket names. */
  #named;
  /** Event streams by job, where sockets are blocked. */
  #streams = null;
  #problem;
  /** The jobs that the relay could not look for, until their first state. They are asked for again after a pause that grows. */
  #unanswered = new Set();
  #backoff = new Backoff();
  #askTimer;

  constructor(options, listener) {
    this.#options = options;
    this.#listener = listener;
  }

  get isFull() {
    return this.#jobs.size >= MAX_JOBS;
  }

  get isEmpty() {
    return this.#jobs.size === 0;
  }

  has(job) {
    return this.#jobs.has(job);
  }

  add(job) {
    this.#jobs.add(job);
    if (this.#streams) return this.#openStream(job);
    if (!this.#connection) return this.#connect(job);
    // While the socket is not open, it is asked for when it is.
    this.#connection.send({ type: "subscribe", job_id: job });
  }

  remove(job) {
    if (!this.#jobs.delete(job)) return;
    this.#streams?.get(job)?.close();
    this.#streams?.delete(job);
    this.#unanswered.delete(job);
    if (this.isEmpty) return this.close();
    this.#connection?.send({ type: "unsubscribe", job_id: job });
  }

  cancel(job) {
    return this.#streams?.get(job)?.cancel() ?? this.#connection?.send({ type: "cancel", job_id: job }) ?? false;
  }

  renew(token) {
    this.#options = { ...this.#options, token };
    this.#connection?.renew(token);
    for (const stream of this.#streams?.values() ?? []) stream.renew(token);
  }

  close() {
    this.#jobs.clear();
    this.#forgetUnanswered();
    this.#connection?.close();
    this.#connection = null;
    for (const stream of this.#streams?.values() ?? []) stream.close();
    this.#streams = null;
  }

  /** Opens the socket for one job; the others are asked for when it is open. */
  #connect(job) {
    const connection = new RelayConnection({
      ...this.#options,
      path: socketPath(job),
      retry: ({ isBlocked }) => (isBlocked ? this.#useStreams() : this.#reconnect(connection)),
    });
    this.#connection = connection;
    const on = (name, handle) => connection.addEventListener(name, ({ detail }) => {
      if (connection === this.#connection) handle(detail);
    });
    this.#named = job;
    on("state", (state) => {
      this.#forgetUnanswered();
      if (state.state === "open") this.#subscribe();
      this.#listener.state(state);
      if (state.state === "closed") this.#refuseAll(state);
    });
    on("progress", (message) => this.#receive(message, connection));
    on("problem", (message) => this.#receiveProblem(message));
    connection.connect();
  }

  #reconnect(connection) {
    connection.reconnectLater(() => {
      // The address of the socket names a job that has not ended.
      this.#named = this.#jobs.values().next().value;
      connection.url = new RelayAddress(this.#options.server).socket(socketPath(this.#named));
      connection.connect();
    });
  }

  #subscribe() {
    for (const job of this.#jobs) {
      if (job !== this.#named) this.#connection.send({ type: "subscribe", job_id: job });
    }
  }

  /** The relay may have ended the subscription. Where it has not, the message changes nothing. */
  #askAgain(job) {
    this.#unanswered.add(job);
    this.#askTimer ??= setTimeout(() => {
      this.#askTimer = undefined;
      for (const it of this.#unanswered) this.#connection?.send({ type: "subscribe", job_id: it });
    }, this.#backoff.next());
  }

  /** Each connection asks for all jobs. */
  #forgetUnanswered() {
    clearTimeout(this.#askTimer);
    this.#askTimer = undefined;
    this.#unanswered.clear();
    this.#backoff.reset();
  }

  #useStreams() {
    const connection = this.#connection;
    // Its end is not that of the jobs.
    this.#connection = null;
    connection.close();
    this.#streams = new Map();
    for (const job of this.#jobs) this.#openStream(job);
  }

  #openStream(job) {
    const stream = new JobSocket(job, { ...this.#options, WebSocket: null });
    this.#streams.set(job, stream);
    const on = (name, handle) => stream.addEventListener(name, ({ detail }) => handle(detail));
    on("state", (state) => {
      this.#listener.state(state);
      if (state.state === "closed" && this.#streams?.get(job) === stream) this.#refuse(job, this.#problem ?? state.text);
    });
    on("progress", (message) => this.#receive(message, stream));
    on("problem", (message) => this.#receiveProblem(message));
    stream.connect();
  }

  #receive(message, connection) {
    if (!this.has(message.job_id)) return;
    this.#problem = undefined;
    if (this.#unanswered.delete(message.job_id)) this.#backoff.reset();
    this.#listener.progress(message, connection);
    if (!FINAL.has(message.status)) return;
    this.#jobs.delete(message.job_id);
    this.#streams?.delete(message.job_id);
    if (this.isEmpty) this.close();
  }

  #receiveProblem(message) {
    this.#problem = message.error;
    if (!this.has(message.job_id)) return;
    this.#listener.problem(message);
    if (REFUSALS.has(message.code)) this.#refuse(message.job_id, message.error);
    else if (this.#connection && PASSING.has(message.code)) this.#askAgain(message.job_id);
  }

  #refuse(job, error) {
    this.#jobs.delete(job);
    this.#streams?.delete(job);
    this.#unanswered.delete(job);
    this.#listener.refused(job, error);
    if (this.isEmpty) this.close();
  }

  /** The socket is closed for good. */
  #refuseAll({ code }) {
    const jobs = [...this.#jobs];
    this.#jobs.clear();
    this.#connection = null;
    for (const job of jobs) this.#listener.refused(job, this.#problem ?? closeText(code));
  }
}

function socketPath(job) {
  return `ws/${encodeURIComponent(job)}`;
}
