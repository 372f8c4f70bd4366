// A client for comfy-relay's sockets. No dependencies; copy it into your own frontend:
//
//   const job = new JobSocket("my-job", { previews: true });      // or { server: "https://host/" }
//   job.addEventListener("progress", ({ detail }) => bar.value = detail.progress);
//   setInterval(() => label.textContent = remaining(newest, job.secondsLeft(newest)), 250);     // counts down
//   job.addEventListener("problem", ({ detail }) => console.warn(detail.code, detail.error));
//   job.addEventListener("preview", ({ detail }) => show(detail.blob));     // node, mime, seq, blob
//   job.addEventListener("state", ({ detail }) => label.textContent = detail.text);
//   job.connect();                                            // later: job.cancel(), job.close()
//
// If the relay requires tokens: new JobSocket("my-job", { token }), and job.renew(newer) before it expires.
//
// Events, with their `detail`:
//   state     {state: "connecting" | "open" | "waiting" | "closed", text, note?, code?, reason?, delay?}
//   unregistered  {job_id, message, job_wait}: nobody has registered the job; the relay waits so many seconds
//   progress  a job's state      problem  an `error` message      status  the monitor's message
//   preview   {job_id, node, mime, seq, blob}
//   raw       {out: boolean, text} or {out: false, header, size}: every message sent or received
//
// Reconnects after a lost connection, until the job has ended, when it leaves, or the relay closes with a code
// that rules it out. The relay sends the newest state first on every connection: nothing has to be requested
// again. Where a proxy passes no WebSockets on, a job is followed by Server-Sent Events instead.

/** The statuses that never change again. */
export const FINAL = new Set(["completed", "failed", "cancelled"]);

const MIN_DELAY = 500;
const MAX_DELAY = 10_000;
/** A connection that lasted this long resets the backoff. */
const RESET_AFTER = 5_000;
/** The relay sends something every 30 s; after this much silence it is pinged. */
const SILENCE_TIMEOUT = 45_000;
const CHECK_INTERVAL = 15_000;
/** The relay's clock may be slower than this one by this share: it is slewed if its wall clock was set. */
const MAX_SLEW = 0.1;

/** How long opening a socket may take: a proxy can accept a connection that it never passes on. */
const OPEN_TIMEOUT = 15_000;

/** Close codes after which to reconnect: restarts, lost connections, failing proxies, a relay with too much to do. */
const RETRY = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014]);

const CLOSE_TEXT = {
  1000: "The job has ended",
  1001: "The relay is restarting",
  1005: "The connection was lost",
  1006: "The connection was lost",
  1008: "The relay closed the connection: it does not accept a message that was sent",
  1009: "The relay closed the connection: a message was too long",
  1011: "An error occurred in the relay",
  1012: "The relay is restarting",
  1013: "The relay cannot serve this now",
  1014: "The relay cannot be reached through its proxy",
  4401: "The relay requires a valid token",
  4403: "The token does not permit this",
  4404: "There is no such job",
};

/** The close code that a socket would have had, by the error that ends an event stream. */
const STREAM_END = { job_not_found: 4404, unauthenticated: 4401 };

const NO_SOCKETS = "A proxy on the way to the relay passes no WebSockets on (its headers Upgrade and Connection)";

/** What a close code means. */
export function closeText(code) {
  return CLOSE_TEXT[code] ?? `The connection was closed (code ${code})`;
}

/** Why a text cannot be a job id; null if it can. */
export function jobIdProblem(id) {
  if (!/^[A-Za-z0-9._:-]{1,128}$/.test(id)) {
    return "A job id has 1 to 128 of the characters A-Z a-z 0-9 . _ : -";
  }
  if (id === "monitor") return "The id “monitor” is reserved for the system monitor";
  // Browsers resolve these as relative paths, even when they are escaped.
  if (id === "." || id === "..") return "Browsers cannot request a job with this id";
  return null;
}

/** A number of seconds as text. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/**
 * The remaining time of a job as text; empty while it is unknown. `seconds` is what is left now: see
 * JobSocket.secondsLeft().
 */
export function remaining({ status, estimated_remaining }, seconds = estimated_remaining) {
  if (seconds == null || FINAL.has(status)) return "";
  return seconds < 1 ? "less than 1 s left" : `about ${duration(seconds)} left`;
}

/** The texts of the events of a stream. The relay sends each on one line. */
async function* events(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

class RelaySocket extends EventTarget {
  #url;
  #base;
  #streamPath;
  #token;
  /** Counts the connections: what belongs to an earlier one comes too late. */
  #generation = 0;
  #active = false;
  #stream = null;
  #lastError;
  /** How many sockets in a row were never open, although the relay answers over HTTP. */
  #blocked = 0;
  #socket = null;
  #attempt = 0;
  #openedAt = 0;
  #receivedAt = 0;
  #pingedAt = 0;
  #listened = new Set();
  #openTimer;
  #retryTimer;
  #checkTimer;
  /** The relay's clock less the monotonic one of the page, in milliseconds, and when it was compared. */
  #offset = -Infinity;
  #comparedAt = 0;

  /**
   * `path` is relative to `server`, a URL of http, https, ws or wss with a final slash; so is `streamPath`, that of
   * the same messages as Server-Sent Events.
   */
  constructor(path, server = `${location.origin}/`, token, streamPath) {
    super();
    this.#token = token;
    this.#streamPath = streamPath;
    this.#url = new URL(path, server);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#base = new URL(server);
    this.#base.protocol = this.#base.protocol.replace("ws", "http");
  }

  connect() {
    this.#drop();
    this.#active = true;
    this.#offset = -Infinity;
    this.#changeState("connecting", "Connecting…");
    let socket;
    try {
      // Pages can set no other header, and proxies log URLs.
      socket = new WebSocket(this.#url, this.#token ? ["bearer", this.#token] : []);
    } catch {
      // It cannot be a header's value, so it is no token.
      const error = "The token is malformed: it has characters that no token has";
      this.#emit("problem", { code: "unauthenticated", error });
      return this.#end(closeText(4401), { code: 4401, reason: error });
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      clearTimeout(this.#openTimer);
      this.#openedAt = this.#receivedAt = Date.now();
      this.#pingedAt = this.#blocked = 0;
      this.#checkTimer = setInterval(() => this.#check(), CHECK_INTERVAL);
      this.#changeState("open", "Connected");
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#socket = socket;
    this.#openTimer = setTimeout(() => this.#closed(1006, "not opened in time"), OPEN_TIMEOUT);
  }

  /** Disconnects, and does not reconnect. */
  close() {
    if (this.#active) this.#end("Disconnected", { code: 1000 });
  }

  /** Sends a message; false while there is no connection. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const text = JSON.stringify(message);
    this.#socket.send(text);
    this.#emit("raw", { out: true, text });
    return true;
  }

  /** Renews the token, for the same user. False while there is no connection: the next one uses it. */
  renew(token) {
    this.#token = token;
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    // Not through send(), whose `raw` event would reveal the token.
    this.#socket.send(JSON.stringify({ type: "auth", token }));
    return true;
  }

  #receive(data) {
    this.#receivedAt = Date.now();
    if (data instanceof ArrayBuffer) return this.#receivePreview(data);
    this.#emit("raw", { out: false, text: data });
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    // Other versions of the relay may send other types: ignore them.
    switch (message?.type) {
      case "connection":
        if (message.job_wait != null) this.#emit("unregistered", message);
        return;
      case "progress":
        this.#compareClocks(message.timestamp);
        this.#emit("progress", message);
        // The relay keeps the socket open for clients that connect again after every close.
        if (this.isLast(message) && this.#active) this.#end(CLOSE_TEXT[1000], { code: 1000 });
        return;
      case "error":
        this.#lastError = message.code;
        return this.#emit("problem", message);
      case "system_status":
        return this.#emit("status", message);
    }
  }

  /** Whether nothing more is to come after this state. */
  isLast({ status }) {
    return FINAL.has(status);
  }

  /** The clock of the page may be set to any time. Messages are late, never early: the fastest one counts. */
  #compareClocks(timestamp) {
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

  /** The length of the header (4 bytes, big-endian), the header as JSON, the image as ComfyUI sent it. */
  #receivePreview(data) {
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
    const opened = this.#openedAt > 0;
    const lasted = opened ? Date.now() - this.#openedAt : 0;
    const wasSocket = this.#socket !== null;
    this.#drop();
    if (!RETRY.has(code)) return this.#end(closeText(code), { code, reason });
    if (lasted > RESET_AFTER) this.#attempt = 0;
    if (wasSocket && !opened && code === 1006) this.#findBlock();
    else this.#reconnect(code, reason, closeText(code));
  }

  /** A socket was never open, of which browsers report no cause. Twice in a row is no restart of the relay. */
  async #findBlock() {
    const generation = this.#generation;
    const answers = await this.#request("api/anime/health").then(({ ok }) => ok, () => false);
    if (generation !== this.#generation) return;
    this.#blocked = answers ? this.#blocked + 1 : 0;
    if (this.#blocked === 1) this.connect();
    else if (this.#blocked && this.#streamPath) this.#followStream();
    else this.#reconnect(1006, "", this.#blocked ? NO_SOCKETS : closeText(1006));
  }

  /** Follows the job by Server-Sent Events. Not with EventSource, which can send a token only in the address. */
  async #followStream() {
    const generation = this.#generation;
    const abort = this.#stream = new AbortController();
    let code = 1006;
    this.#lastError = undefined;
    try {
      const response = await this.#request(this.#streamPath, { signal: abort.signal });
      if (generation !== this.#generation) return;
      if (response.ok) {
        this.#openedAt = Date.now();
        this.#changeState("open", "Connected", { note: `${NO_SOCKETS}; Server-Sent Events are used instead` });
        for await (const text of events(response.body)) {
          if (generation !== this.#generation) return;
          this.#receive(text);
        }
        code = STREAM_END[this.#lastError] ?? code;
      } else if (response.status !== 503) {
        code = 4000 + response.status;
      }
    } catch {
      // The connection was lost.
    }
    if (generation === this.#generation) this.#closed(code, "");
  }

  #request(path, options = {}) {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    return fetch(new URL(path, this.#base), { cache: "no-store", headers, ...options });
  }

  /** Asks for something that needs no answer. False while nothing is followed by Server-Sent Events. */
  post(path) {
    if (!this.#stream) return false;
    this.#request(path, { method: "POST" }).catch(() => {});
    return true;
  }

  #reconnect(code, reason, why) {
    // Exponential backoff with jitter: the clients of a restarted relay do not all reconnect at once.
    const ceiling = Math.min(MAX_DELAY, MIN_DELAY * 2 ** ++this.#attempt);
    const delay = MIN_DELAY + Math.random() * (ceiling - MIN_DELAY);
    this.#retryTimer = setTimeout(() => this.connect(), delay);
    const text = `${why}; reconnecting in ${(delay / 1000).toFixed(1)} s`;
    this.#changeState("waiting", text, { code, reason, delay });
  }

  /** After sleep or a change of network the browser reports no lost connection: a ping finds out. */
  #check() {
    const now = Date.now();
    if (now - this.#receivedAt < SILENCE_TIMEOUT) {
      this.#pingedAt = 0;
    } else if (!this.#pingedAt) {
      this.#pingedAt = now;
      this.send({ type: "ping" });
    } else {
      this.#closed(1006, "silence");
    }
  }

  #end(text, more) {
    this.#drop();
    this.#active = false;
    this.#changeState("closed", text, more);
  }

  #drop() {
    this.#generation += 1;
    this.#stream?.abort();
    this.#stream = null;
    clearTimeout(this.#openTimer);
    clearTimeout(this.#retryTimer);
    clearInterval(this.#checkTimer);
    this.#retryTimer = undefined;
    this.#openedAt = 0;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #changeState(state, text, more = {}) {
    this.#emit("state", { state, text, ...more });
  }

  /** Remembers what is listened to: with thousands of messages a second, the other events are not worth making. */
  addEventListener(name, ...rest) {
    this.#listened.add(name);
    super.addEventListener(name, ...rest);
  }

  #emit(name, detail) {
    if (!this.#listened.has(name)) return;
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Follows one job to its end. Throws a RangeError if `id` cannot be a job id. */
export class JobSocket extends RelaySocket {
  #path;

  constructor(id, { previews = false, server, token } = {}) {
    const problem = jobIdProblem(id);
    if (problem) throw new RangeError(problem);
    const path = `api/anime/jobs/${encodeURIComponent(id)}`;
    super(`ws/${encodeURIComponent(id)}${previews ? "?previews=1" : ""}`, server, token, `${path}/events`);
    this.id = id;
    this.#path = path;
  }

  /** Cancels the job. False while there is no connection. */
  cancel() {
    return this.send({ type: "cancel" }) || this.post(`${this.#path}/cancel`);
  }
}

/** Follows all jobs that are open or will be, and goes on when they have ended. */
export class JobsSocket extends RelaySocket {
  constructor({ previews = false, server, token } = {}) {
    super(`ws/jobs${previews ? "?previews=1" : ""}`, server, token, "api/anime/jobs/events");
  }

  isLast() {
    return false;
  }
}

/** Follows the relay as a whole. */
export class MonitorSocket extends RelaySocket {
  constructor({ server, token } = {}) {
    super("ws/monitor", server, token);
  }
}
