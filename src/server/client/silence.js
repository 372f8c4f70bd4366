/** The relay sends something every 30 s; after this much silence, in milliseconds, it is asked for a sign of life. */
export const SILENCE_TIMEOUT = 45_000;
/** How long it has for that. */
export const CHECK_INTERVAL = 15_000;
/** How long opening may take, and a request: a proxy can accept a connection that it never passes on. */
export const OPEN_TIMEOUT = 15_000;
