import { HubSocket } from "./hub_socket.js";
import { checkJobId } from "./job_id.js";
import { JobSubscription } from "./job_subscription.js";

/**
 * Follows several jobs over one socket (one more for each hundred of them):
 *
 *   const hub = new ProgressHub("ws://127.0.0.1:8328");
 *   for await (const state of hub.follow("shot-12")) bar.value = state.progress;
 *
 * Dispatches `state`: how a connection is.
 */
export class ProgressHub extends EventTarget {
  /** How the newest connection is: {state: "connecting" | "open" | "waiting" | "closed", text, …}. */
  state = { state: "closed", text: "Not connected" };
  #options;
  #sockets = new Set();
  /** What is followed, by job. */
  #subscriptions = new Map();

  /** `options`: `token` (a text, or a function that returns one or a promise of one), `WebSocket`. */
  constructor(serverUrl, options = {}) {
    super();
    this.#options = { ...options, server: serverUrl };
  }

  /** Follows a job. The same job may be followed several times. */
  follow(jobId) {
    const job = checkJobId(jobId);
    const subscription = new JobSubscription(job, (it) => this.#leave(it));
    const others = this.#subscriptions.get(job);
    if (others) {
      const { newest, connection } = others;
      others.members.add(subscription);
      // The caller listens in a moment.
      if (newest) queueMicrotask(() => subscription.receive(newest, connection));
    } else {
      this.#subscriptions.set(job, { members: new Set([subscription]), newest: null, connection: null });
      this.#socketWithRoom().add(job);
    }
    return subscription;
  }

  /** Cancels a job that is followed. False while there is no connection. */
  cancel(jobId) {
    return this.#socketOf(String(jobId))?.cancel(String(jobId)) ?? false;
  }

  /** Goes on with a newer token of the same user. */
  renew(token) {
    this.#options = { ...this.#options, token };
    for (const socket of this.#sockets) socket.renew(token);
  }

  /** Follows nothing any longer. */
  close() {
    for (const { members } of [...this.#subscriptions.values()]) for (const it of [...members]) it.close();
  }

  #socketWithRoom() {
    for (const socket of this.#sockets) if (!socket.isFull && !socket.isEmpty) return socket;
    const socket = new HubSocket(this.#options, {
      progress: (message, connection) => this.#receive(message, connection),
      problem: (message) => this.#each(message.job_id, (it) => it.receiveProblem(message)),
      refused: (job, error) => this.#refuse(job, error),
      state: (state) => {
        this.state = state;
        this.dispatchEvent(new CustomEvent("state", { detail: state }));
        if (socket.isEmpty) this.#sockets.delete(socket);
      },
    });
    this.#sockets.add(socket);
    return socket;
  }

  #socketOf(job) {
    for (const socket of this.#sockets) if (socket.has(job)) return socket;
    return undefined;
  }

  #each(job, handle) {
    for (const it of [...(this.#subscriptions.get(job)?.members ?? [])]) handle(it);
  }

  #receive(message, connection) {
    const job = this.#subscriptions.get(message.job_id);
    if (!job) return;
    Object.assign(job, { newest: message, connection });
    this.#each(message.job_id, (it) => it.receive(message, connection));
    if ([...job.members].every((it) => it.ended)) this.#subscriptions.delete(message.job_id);
  }

  #refuse(job, error) {
    this.#each(job, (it) => it.fail(error));
    this.#subscriptions.delete(job);
  }

  #leave(subscription) {
    const job = this.#subscriptions.get(subscription.jobId);
    if (!job?.members.delete(subscription) || job.members.size) return;
    this.#subscriptions.delete(subscription.jobId);
    this.#socketOf(subscription.jobId)?.remove(subscription.jobId);
  }
}
