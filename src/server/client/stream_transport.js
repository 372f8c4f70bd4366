import { STREAM_END } from "./close_code.js";
import { CHECK_INTERVAL, OPEN_TIMEOUT, SILENCE_TIMEOUT } from "./silence.js";

/** Refusals that pass: they come in time, or from a proxy whose relay is away. */
const PASSING = new Set([408, 425, 429]);

/** The texts of the events of a stream. The relay sends each on one line. Calls `heard()` for whatever comes. */
async function* events(body, heard) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

/**
 * The messages of the relay as Server-Sent Events, with the same `handler` as a SocketTransport. Not with EventSource,
 * which can send a token only in the address.
 */
export class StreamTransport {
  #handler;
  #abort = new AbortController();
  #openedAt = 0;
  #timer;

  /** `request(options)` opens the stream; `lastSeq` is the number of the last state that has come. */
  constructor(request, lastSeq, handler) {
    this.#handler = handler;
    this.#run(request, lastSeq);
  }

  /** A stream goes one way. */
  send() {
    return false;
  }

  close() {
    this.#handler = null;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  async #run(request, lastSeq) {
    let code = 1006;
    this.#limit(OPEN_TIMEOUT);
    try {
      const headers = lastSeq == null ? {} : { "Last-Event-ID": String(lastSeq) };
      const response = await request({ headers, signal: this.#abort.signal });
      if (response.status === 204) code = 1000;
      else if (response.ok) code = await this.#read(response.body);
      else if (response.status < 500 && !PASSING.has(response.status)) code = 4000 + response.status;
    } catch {
      // The connection was lost, or nothing came of it.
    }
    clearTimeout(this.#timer);
    const lasted = this.#openedAt ? Date.now() - this.#openedAt : 0;
    this.#handler?.closed({ code, reason: "", lasted, wasOpen: this.#openedAt > 0, isSocket: false });
  }

  /** Gives the stream up if nothing comes within this time, in milliseconds: nothing else reports that a network is gone. */
  #limit(time) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(), time);
  }

  /** Reads the stream to its end. Returns the close code that a socket would have had. */
  async #read(body) {
    let code = 1006;
    if (!this.#handler) return code;
    this.#openedAt = Date.now();
    const heard = () => this.#limit(SILENCE_TIMEOUT + CHECK_INTERVAL);
    heard();
    this.#handler.opened();
    for await (const text of events(body, heard)) {
      if (!this.#handler) break;
      code = STREAM_END[errorCode(text)] ?? code;
      this.#handler.received(text);
    }
    return code;
  }
}

/** The code of an `error` message. */
function errorCode(text) {
  if (!text.includes('"error"')) return undefined;
  const message = JSON.parse(text);
  return message.type === "error" ? message.code : undefined;
}
