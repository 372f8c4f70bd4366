// Requests to the relay, below whatever prefix it is served.

import { askForToken, takeToken } from "./token.js";

/** The address of the relay. */
export const BASE = new URL("..", import.meta.url);

/** The token of this tab. */
export const TOKEN = takeToken();

/** An answer other than the one that was asked for. */
export class RelayError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

/**
 * The JSON of an answer. Throws a `RelayError` where the relay refuses, or a proxy answers in its place, and a `TypeError` where
 * nobody answers.
 */
export async function request(path, { body, ...options } = {}) {
  const headers = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
  const content = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(new URL(path, BASE), { cache: "no-store", headers, ...content, ...options });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const { code, message = response.statusText || `HTTP ${response.status}` } = answer?.error ?? {};
  if (response.status === 401) askForToken(TOKEN ? message : undefined);
  throw new RelayError(response.status, code, message);
}

/** The path of a job, or of something of it. */
export function jobPath(id, rest = "") {
  return `api/anime/jobs/${encodeURIComponent(id)}${rest}`;
}

/** The address of the page of a job. */
export function jobPage(id) {
  return new URL(`jobs/${encodeURIComponent(id)}`, BASE).href;
}
