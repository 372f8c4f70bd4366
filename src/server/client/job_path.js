/** The path of a job in the API, or of something of it, below the relay's address. */
export function jobPath(id, rest = "") {
  return `api/anime/jobs/${encodeURIComponent(id)}${rest}`;
}
