/** Close codes after which to reconnect: restarts, lost connections, failing proxies, a relay with too much to do. */
export const RETRY = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014]);

/** No token, a wrong one, or one that has expired. */
export const UNAUTHENTICATED = 4401;

/** The close code that a socket would have had, by the error that ends an event stream. */
export const STREAM_END = { job_not_found: 4404, unauthenticated: UNAUTHENTICATED };

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

/** What a close code means. */
export function closeText(code) {
  return CLOSE_TEXT[code] ?? `The connection was closed (code ${code})`;
}
