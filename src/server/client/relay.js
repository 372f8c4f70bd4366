// A client for comfy-relay's sockets. No dependencies; copy it into your own frontend:
//
//   const job = new JobSocket("my-job", { previews: true });      // or { server: "https://host/" }
//   job.addEventListener("progress", ({ detail }) => bar.value = detail.progress);
//   job.addEventListener("problem", ({ detail }) => console.warn(detail.code, detail.error));
//   job.addEventListener("preview", ({ detail }) => show(detail.blob));     // node, mime, seq, blob
//   job.addEventListener("state", ({ detail }) => label.textContent = detail.text);
//   job.connect();                                            // later: job.cancel(), job.close()
//
// Where the relay wants tokens: new JobSocket("my-job", { token }), and job.renew(newer) before it expires.
//
// Events, with their `detail`:
//   state     {state: "connecting" | "open" | "waiting" | "closed", text, code?, reason?, delay?}
//   progress  a job's state      problem  an `error` message      status  the monitor's message
//   preview   {job_id, node, mime, seq, blob}
//   raw       {out: boolean, text} or {out: false, header, size}: everything that went over the wire
//
// Lost connections are made again, until the job has ended or the relay says that it is of no use.
// After each of them the relay sends the newest state first: nothing has to be asked for again.

/** The states in which a job stays. */
export const FINAL = new Set(["completed", "failed", "cancelled"]);

const MIN_DELAY = 500;
const MAX_DELAY = 10_000;
/** A connection that lasted this long was a good one: the next delay is a short one again. */
const GOOD_AFTER = 5_000;
/** The relay says something every 30 s; after this much silence it is asked for a sign of life. */
const SILENCE = 45_000;
const CHECK_EVERY = 15_000;

/** Close codes after which to connect again: restarts, lost connections, proxies in trouble. */
const RETRY = new Set([1001, 1005, 1006, 1011, 1012, 1014]);

const CLOSE_TEXT = {
  1000: "The job has ended",
  1001: "The relay is restarting",
  1005: "The connection was lost",
  1006: "The connection was lost",
  1008: "The relay closed the connection: it does not accept what was sent",
  1009: "The relay closed the connection: a message was too long",
  1011: "The relay met an error",
  1012: "The relay is restarting",
  1013: "The relay cannot tell now: try again later",
  1014: "The relay cannot be reached through its proxy",
  4401: "The relay wants a token, or a newer one",
  4403: "This is not allowed",
  4404: "There is no such job",
};

/** A close code in words. */
export function closeText(code) {
  return CLOSE_TEXT[code] ?? `The connection was closed (code ${code})`;
}

/** Why a text is no job id; null where it is one. */
export function jobIdProblem(id) {
  if (!/^[A-Za-z0-9._:-]{1,128}$/.test(id)) {
    return "A job id has 1 to 128 of the characters A-Z a-z 0-9 . _ : -";
  }
  if (id === "monitor") return "The id “monitor” stands for the system monitor";
  // In an address these mean folders, even when escaped.
  if (id === "." || id === "..") return "Browsers cannot ask for a job of this id";
  return null;
}

/** Seconds, for people. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** How long a job will take, for people; empty while nobody can tell. */
export function remaining({ status, estimated_remaining: seconds }) {
  if (seconds == null || FINAL.has(status)) return "";
  return seconds < 1 ? "less than 1 s left" : `about ${duration(seconds)} left`;
}

class RelaySocket extends EventTarget {
  #url;
  #token;
  #socket = null;
  #attempt = 0;
  #openedAt = 0;
  #heardAt = 0;
  #askedAt = 0;
  #retryTimer;
  #checkTimer;
  #ended = false;

  /** `path` is taken below `server`: an address of http, https, ws or wss with a final slash. */
  constructor(path, server = `${location.origin}/`, token) {
    super();
    this.#token = token;
    this.#url = new URL(path, server);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
  }

  connect() {
    this.#drop();
    this.#ended = false;
    this.#say("connecting", "Connecting…");
    // A browser can send a token in no other way that is not written down by servers in between.
    const socket = new WebSocket(this.#url, this.#token ? ["bearer", this.#token] : []);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#openedAt = this.#heardAt = Date.now();
      this.#askedAt = 0;
      this.#checkTimer = setInterval(() => this.#check(), CHECK_EVERY);
      this.#say("open", "Connected");
    };
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#socket = socket;
  }

  /** Leaves, and stays away. */
  close() {
    if (!this.#socket && !this.#retryTimer) return;
    this.#drop();
    this.#say("closed", "Disconnected", { code: 1000 });
  }

  /** Sends a message; false while there is no connection. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const text = JSON.stringify(message);
    this.#socket.send(text);
    this.#emit("raw", { out: true, text });
    return true;
  }

  /** Goes on with a newer token of the same user; false while there is no connection: the next one has it. */
  renew(token) {
    this.#token = token;
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    // Not through send(), which tells everybody who listens.
    this.#socket.send(JSON.stringify({ type: "auth", token }));
    return true;
  }

  #hear(data) {
    this.#heardAt = Date.now();
    if (data instanceof ArrayBuffer) return this.#hearPreview(data);
    this.#emit("raw", { out: false, text: data });
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    // Other types may come with other versions, and are none of ours.
    switch (message?.type) {
      case "progress":
        this.#ended = FINAL.has(message.status);
        return this.#emit("progress", message);
      case "error":
        return this.#emit("problem", message);
      case "system_status":
        return this.#emit("status", message);
    }
  }

  /** A length (4 bytes, big-endian), that much JSON, then the image as ComfyUI made it. */
  #hearPreview(data) {
    let header;
    let start;
    try {
      start = 4 + new DataView(data).getUint32(0);
      header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, start - 4)));
    } catch {
      return this.#emit("raw", { out: false, header: null, size: data.byteLength });
    }
    const image = new Uint8Array(data, start);
    this.#emit("raw", { out: false, header, size: image.byteLength });
    if (header.type !== "preview") return;
    this.#emit("preview", { ...header, blob: new Blob([image], { type: header.mime }) });
  }

  #closed(code, reason) {
    const lasted = this.#openedAt ? Date.now() - this.#openedAt : 0;
    this.#drop();
    if (this.#ended || !RETRY.has(code)) {
      const text = this.#ended ? CLOSE_TEXT[1000] : closeText(code);
      return this.#say("closed", text, { code, reason });
    }
    if (lasted > GOOD_AFTER) this.#attempt = 0;
    // Spread out, lest all clients of a restarted relay come back in the same moment.
    const most = Math.min(MAX_DELAY, MIN_DELAY * 2 ** ++this.#attempt);
    const delay = MIN_DELAY + Math.random() * (most - MIN_DELAY);
    this.#retryTimer = setTimeout(() => this.connect(), delay);
    const wait = `${closeText(code)}; connecting again in ${(delay / 1000).toFixed(1)} s`;
    this.#say("waiting", wait, { code, reason, delay });
  }

  /** A computer that slept, or changed its network, is not told that its connection is gone. */
  #check() {
    const now = Date.now();
    if (now - this.#heardAt < SILENCE) {
      this.#askedAt = 0;
    } else if (!this.#askedAt) {
      this.#askedAt = now;
      this.send({ type: "ping" });
    } else {
      this.#closed(1006, "silence");
    }
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#checkTimer);
    this.#retryTimer = undefined;
    this.#openedAt = 0;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #say(state, text, more = {}) {
    this.#emit("state", { state, text, ...more });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Follows one job to its end. Throws a RangeError where `id` is no job id. */
export class JobSocket extends RelaySocket {
  constructor(id, { previews = false, server, token } = {}) {
    const problem = jobIdProblem(id);
    if (problem) throw new RangeError(problem);
    super(`ws/${encodeURIComponent(id)}${previews ? "?previews=1" : ""}`, server, token);
    this.id = id;
  }

  /** Calls the job off; false while there is no connection. */
  cancel() {
    return this.send({ type: "cancel" });
  }
}

/** Follows the relay as a whole. */
export class MonitorSocket extends RelaySocket {
  constructor({ server, token } = {}) {
    super("ws/monitor", server, token);
  }
}
