import { Backoff } from "./backoff.js";
import { RETRY, UNAUTHENTICATED, closeText } from "./close_code.js";
import { readPreview } from "./preview.js";
import { RelayAddress } from "./relay_address.js";
import { RelayClock } from "./relay_clock.js";
import { OPEN_TIMEOUT } from "./silence.js";
import { SocketTransport } from "./socket_transport.js";
import { StreamTransport } from "./stream_transport.js";
import { TokenSource } from "./token_source.js";

/** A connection that lasted this long resets the backoff. */
const RESET_AFTER = 5_000;

const NO_SOCKETS = "A proxy on the way to the relay passes no WebSockets on (its headers Upgrade and Connection)";
const NO_TOKEN = "The token is malformed: it has characters that no token has";

/**
 * A connection to the relay that is made again whenever it is lost, until it is closed, or the relay closes with a
 * code that rules it out. The relay sends the newest state first on every connection: nothing has to be requested
 * again. Where a proxy passes no WebSockets on, Server-Sent Events are used instead.
 *
 * Dispatches `state`, `unregistered`, `progress`, `problem`, `status`, `preview` and `raw`: see relay.js.
 */
export class RelayConnection extends EventTarget {
  /** What connects: {state: "connecting" | "open" | "waiting" | "closed", text, note?, code?, reason?, delay?}. */
  state = { state: "closed", text: "Not connected" };
  /** The address of the socket. It may be changed before connect(). */
  url;
  #address;
  #streamPath;
  #token;
  #WebSocket;
  #isLast;
  #retry;
  #transport = null;
  /** Counts the connections: what belongs to an earlier one comes too late. */
  #generation = 0;
  #active = false;
  #backoff = new Backoff();
  #clock = new RelayClock();
  /** How many sockets in a row were never open, although the relay answers over HTTP. */
  #blocked = 0;
  /** Whether the newest token was refused, and nothing has come since. */
  #refused = false;
  #lastSeq;
  #lost;
  #listened = new Set();
  #retryTimer;
  #renewTimer;

  /**
   * `path` is that of the socket, `streamPath` that of the same messages as Server-Sent Events, both below `server`.
   * `WebSocket` is null where sockets are not to be tried. `isLast(message)` says of a `progress` message that the
   * connection ends with it. `retry({isBlocked})` is called when the connection is lost, and calls reconnectLater() by
   * default; `isBlocked` says that no socket can be opened here.
   */
  constructor({ server, path, streamPath, token, WebSocket = globalThis.WebSocket, isLast = () => false, retry }) {
    super();
    this.#address = new RelayAddress(server);
    this.url = this.#address.socket(path);
    this.#streamPath = streamPath;
    this.#token = new TokenSource(token);
    this.#WebSocket = WebSocket;
    this.#isLast = isLast;
    this.#retry = retry ?? (() => this.reconnectLater());
  }

  /** The socket; null while there is none. */
  get socket() {
    return this.#transport?.socket ?? null;
  }

  connect() {
    this.#drop();
    this.#active = true;
    this.#clock = new RelayClock();
    this.#changeState("connecting", "Connecting…");
    let token;
    try {
      token = this.#token.get();
    } catch (error) {
      return this.#lose(1006, "", `No token: ${error}`);
    }
    // A token that is at hand opens the socket at once.
    if (typeof token?.then !== "function") return this.#open(token);
    const generation = this.#generation;
    const isNewest = (then) => (value) => generation === this.#generation && then(value);
    token.then(isNewest((value) => this.#open(value)), isNewest((error) => this.#lose(1006, "", `No token: ${error}`)));
  }

  /** Disconnects, and does not reconnect. */
  close() {
    if (this.#active) this.end("Disconnected", { code: 1000 });
  }

  /** Ends the connection for this reason. */
  end(text, more) {
    this.#drop();
    this.#active = false;
    this.#changeState("closed", text, more);
  }

  /** Sends a message; false while there is no socket. */
  send(message) {
    const text = JSON.stringify(message);
    const sent = this.#transport?.send(text) ?? false;
    if (sent) this.#emit("raw", { out: true, text });
    return sent;
  }

  /** Renews the token, for the same user. False while there is no socket: the next one uses it. */
  renew(token) {
    this.#token.set(token);
    this.#renewLater(token);
    // Not through send(), whose `raw` event would reveal the token.
    return this.#transport?.send(JSON.stringify({ type: "auth", token })) ?? false;
  }

  /** Asks for something; a refusal is a `problem`. False while nothing is followed by Server-Sent Events. */
  post(path) {
    if (!(this.#transport instanceof StreamTransport)) return false;
    this.#post(path).catch((error) => this.#emit("problem", { type: "error", code: "unreachable", error: String(error) }));
    return true;
  }

  async #post(path) {
    const response = await this.#request(path, await this.#newestToken(), { method: "POST" });
    if (response.ok) return;
    const { error } = await response.json().catch(() => ({}));
    this.#emit("problem", { type: "error", code: error?.code, error: error?.message ?? `The relay refuses it (${response.status})` });
  }

  /** The seconds until a job's `estimated_completion`, at least 0; undefined or null while it is unknown. */
  secondsLeft(message) {
    return this.#clock.secondsLeft(message);
  }

  /** Connects again after a pause that grows. */
  reconnectLater(connect = () => this.connect()) {
    const { code, reason, why } = this.#lost ?? { why: closeText(1006) };
    const delay = this.#backoff.next();
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(connect, delay);
    this.#changeState("waiting", `${why}; reconnecting in ${(delay / 1000).toFixed(1)} s`, { code, reason, delay });
  }

  #open(token) {
    this.#renewLater(token);
    if (!this.#WebSocket) return this.#openWithoutSocket(token);
    try {
      this.#transport = new SocketTransport(this.url, token, this.#WebSocket, this.#handler(token));
    } catch {
      // It cannot be a header's value, so it is no token.
      this.#emit("problem", { type: "error", code: "unauthenticated", error: NO_TOKEN });
      this.end(closeText(UNAUTHENTICATED), { code: UNAUTHENTICATED, reason: NO_TOKEN });
    }
  }

  #openWithoutSocket(token) {
    if (this.#streamPath) this.#openStream(token, "Server-Sent Events are used");
    else this.#lose(1006, "", "There is no WebSocket here");
  }

  #openStream(token, note) {
    const request = (options) => this.#request(this.#streamPath, token, options);
    this.#transport = new StreamTransport(request, this.#lastSeq, this.#handler(token, { note }));
  }

  /** What a transport calls. */
  #handler(token, more) {
    return {
      opened: () => {
        if (this.socket) this.#blocked = 0;
        this.#changeState("open", "Connected", more);
      },
      received: (data) => this.#receive(data),
      closed: (end) => this.#closed(end, token),
    };
  }

  #receive(data) {
    if (typeof data !== "string") return this.#receivePreview(data);
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
        return this.#receiveProgress(message);
      case "error":
        return this.#emit("problem", message);
      case "system_status":
        this.#refused = false;
        return this.#emit("status", message);
    }
  }

  #receiveProgress(message) {
    this.#refused = false;
    this.#lastSeq = message.seq;
    this.#clock.set(message.timestamp);
    this.#emit("progress", message);
    // The relay keeps the socket open for clients that connect again after every close.
    if (this.#active && this.#isLast(message)) this.end(closeText(1000), { code: 1000 });
  }

  #receivePreview(data) {
    const { header, image } = readPreview(data);
    this.#emit("raw", { out: false, header, size: image.byteLength });
    if (header?.type !== "preview") return;
    this.#emit("preview", { ...header, blob: new Blob([image], { type: header.mime }) });
  }

  #closed({ code, reason, lasted, wasOpen, isSocket }, token) {
    this.#drop();
    // A newer token may be accepted; one that is refused as well ends the connection. A stream ends with the token that it was opened with.
    const hasNewer = this.#token.isRenewable || this.#token.get() !== token;
    const mayRenew = code === UNAUTHENTICATED && hasNewer && !this.#refused;
    this.#refused ||= mayRenew;
    if (!RETRY.has(code) && !mayRenew) return this.end(closeText(code), { code, reason });
    if (lasted > RESET_AFTER) this.#backoff.reset();
    if (isSocket && !wasOpen && code === 1006) this.#findBlock(token);
    else this.#lose(code, reason, closeText(code));
  }

  /** A socket was never open, of which browsers report no cause. Twice in a row is no restart of the relay. */
  async #findBlock(token) {
    const generation = this.#generation;
    const signal = AbortSignal.timeout(OPEN_TIMEOUT);
    const answers = await this.#request("api/anime/health", token, { signal }).then(({ ok }) => ok, () => false);
    if (generation !== this.#generation) return;
    this.#blocked = answers ? this.#blocked + 1 : 0;
    if (this.#blocked === 1) this.connect();
    else if (this.#blocked && this.#streamPath) {
      this.#openStream(token, `${NO_SOCKETS}; Server-Sent Events are used instead`);
    } else {
      this.#lose(1006, "", this.#blocked ? NO_SOCKETS : closeText(1006));
    }
  }

  /** The connection is lost: `retry` decides what follows. */
  #lose(code, reason, why) {
    this.#lost = { code, reason, why };
    const generation = this.#generation;
    this.#retry({ isBlocked: this.#blocked > 1 || !this.#WebSocket });
    const isOver = generation === this.#generation && this.#retryTimer === undefined;
    if (isOver) this.end(why, { code, reason });
  }

  #renewLater(token) {
    clearTimeout(this.#renewTimer);
    const delay = token && this.#token.renewIn(token);
    if (delay === undefined || !this.#active) return;
    const generation = this.#generation;
    this.#renewTimer = setTimeout(async () => {
      // A callback that fails is asked again when the token has expired.
      const newer = await this.#newestToken().catch(() => undefined);
      if (newer && generation === this.#generation) this.renew(newer);
    }, delay);
  }

  async #newestToken() {
    return this.#token.get();
  }

  #request(path, token, { headers, ...options } = {}) {
    const bearer = token ? { Authorization: `Bearer ${token}` } : {};
    return fetch(this.#address.http(path), { cache: "no-store", headers: { ...bearer, ...headers }, ...options });
  }

  #drop() {
    this.#generation += 1;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#renewTimer);
    this.#retryTimer = undefined;
    this.#transport?.close();
    this.#transport = null;
  }

  #changeState(state, text, more = {}) {
    this.state = { state, text, ...more };
    this.#emit("state", this.state);
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
