// Requests to the relay, below whatever prefix it is served.

import { askForToken, takeToken } from "./token.js";

export { jobPath } from "../client/job_path.js";

/** The address of the relay. */
export const BASE = new URL("..", import.meta.url);

/** The token of this tab. */
export const TOKEN = takeToken();

/** An answer other than the one that was asked for. */
export class RelayError extends Error {
  constructor(status, code, message, details) {
    super(message);
    Object.assign(this, { status, code, details });
  }
}

/**
 * The JSON of an answer. Throws a `RelayError` where the relay refuses, or a proxy answers in its place, and a `TypeError` where
 * nobody answers. `read` makes the answer of the response.
 */
export async function request(path, { read = (response) => response.json(), ...options } = {}) {
  const headers = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
  const response = await fetch(new URL(path, BASE), { cache: "no-store", headers, ...options });
  const answer = await read(response).catch(() => null);
  if (response.ok && answer) return answer;
  const { code, details, message = response.statusText || `HTTP ${response.status}` } = answer?.error ?? {};
  if (response.status === 401) askForToken(TOKEN ? message : undefined);
  throw new RelayError(response.status, code, message, details);
}

/** The address of the page of a job. */
export function jobPage(id) {
  return new URL(`jobs/${encodeURIComponent(id)}`, BASE).href;
}
