/** The relay that has served this module, also below a path; else the page's own origin. */
function servedBy() {
  const [, relay] = /^(https?:.*\/)client\/[^/]*$/.exec(import.meta.url) ?? [];
  return relay ?? `${globalThis.location.origin}/`;
}

/** The address of a relay: a URL of http, https, ws or wss, which may have a path. */
export class RelayAddress {
  #base;

  constructor(server) {
    const base = new URL(server || servedBy(), globalThis.location?.href);
    base.protocol = base.protocol.replace("ws", "http");
    base.search = base.hash = "";
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    this.#base = base;
  }

  /** A path below the relay, over HTTP. */
  http(path) {
    return new URL(path, this.#base);
  }

  /** A path below the relay, as the address of a WebSocket. */
  socket(path) {
    const url = this.http(path);
    url.protocol = url.protocol.replace("http", "ws");
    return url;
  }
}
