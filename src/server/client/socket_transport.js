import { CHECK_INTERVAL, OPEN_TIMEOUT, SILENCE_TIMEOUT } from "./silence.js";

/** The values of `readyState`, which implementations for Node may keep elsewhere. */
const CONNECTING = 0;
const OPEN = 1;

/**
 * The messages of the relay on a WebSocket. `handler` has `opened()`, `received(data)` and
 * `closed({code, reason, lasted, isSocket: true})`, of which the last comes once, and is the last.
 */
export class SocketTransport {
  /** The socket itself. */
  socket;
  #handler;
  #openedAt = 0;
  #receivedAt = 0;
  #pingedAt = 0;
  #openTimer;
  #checkTimer;

  /** Throws where the token cannot be the value of a header. */
  constructor(url, token, WebSocket, handler) {
    this.#handler = handler;
    // Pages can set no other header, and proxies log URLs.
    const socket = this.socket = new WebSocket(url, token ? ["bearer", token] : []);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#opened());
    socket.addEventListener("message", ({ data }) => {
      this.#receivedAt = Date.now();
      this.#handler?.received(data);
    });
    socket.addEventListener("close", ({ code, reason }) => this.#closed(code, reason));
    this.#openTimer = setTimeout(() => this.#giveUp("not opened in time"), OPEN_TIMEOUT);
  }

  /** Sends a text; false while the socket is not open. */
  send(text) {
    if (!this.#handler || this.socket.readyState !== OPEN) return false;
    this.socket.send(text);
    return true;
  }

  /** Closes the socket, whose handler is not called again. */
  close() {
    this.#release();
    // Browsers log an error where a socket is closed before it is open.
    if (this.socket.readyState !== CONNECTING) this.socket.close(1000);
    else this.socket.addEventListener("open", () => this.socket.close(1000));
  }

  #opened() {
    if (!this.#handler) return;
    clearTimeout(this.#openTimer);
    this.#openedAt = this.#receivedAt = Date.now();
    this.#checkTimer = setInterval(() => this.#check(), CHECK_INTERVAL);
    this.#handler.opened();
  }

  #closed(code, reason) {
    const handler = this.#handler;
    if (!handler) return;
    const lasted = this.#openedAt ? Date.now() - this.#openedAt : 0;
    const wasOpen = this.#openedAt > 0;
    this.#release();
    handler.closed({ code, reason, lasted, wasOpen, isSocket: true });
  }

  /** After sleep or a change of network the browser reports no lost connection: a ping finds out. */
  #check() {
    const now = Date.now();
    if (now - this.#receivedAt < SILENCE_TIMEOUT) {
      this.#pingedAt = 0;
    } else if (!this.#pingedAt) {
      this.#pingedAt = now;
      this.send(JSON.stringify({ type: "ping" }));
    } else {
      this.#giveUp("silence");
    }
  }

  /** Closes a socket that does not answer, and does not wait for its end. */
  #giveUp(reason) {
    this.socket.close();
    this.#closed(1006, reason);
  }

  #release() {
    this.#handler = null;
    clearTimeout(this.#openTimer);
    clearInterval(this.#checkTimer);
  }
}
