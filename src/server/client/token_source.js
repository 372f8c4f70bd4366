/** A token is renewed when this share of its time has passed. */
const RENEW_AFTER = 0.8;
/** Longer timers than a browser has. */
const MAX_TIMER = 2 ** 31 - 1;
/** A token that has expired already is not asked for in a loop. */
const MIN_PAUSE = 1_000;

/** For how many milliseconds a JSON Web Token is valid yet; NaN if it does not say. */
function timeLeft(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { iat, exp } = JSON.parse(atob(claims));
    const left = exp * 1000 - Date.now();
    // The relay accepts it: where it seems to have ended, the clock of the page is ahead.
    return left > 0 ? left : (exp - iat) * 1000;
  } catch {
    return NaN;
  }
}

/** Where a connection has its token from: a text, or a function that returns one or a promise of one. */
export class TokenSource {
  #token;

  constructor(token) {
    this.#token = token;
  }

  /** Whether it can be asked for a newer token. */
  get isRenewable() {
    return typeof this.#token === "function";
  }

  /** The token, undefined where none is needed, or a promise. */
  get() {
    return this.isRenewable ? this.#token() : this.#token;
  }

  set(token) {
    if (!this.isRenewable) this.#token = token;
  }

  /** In how many milliseconds to ask for a newer one; undefined for a token that does not end. */
  renewIn(token) {
    const left = timeLeft(token);
    if (!this.isRenewable || !(left > -Infinity)) return undefined;
    return Math.min(Math.max(left * RENEW_AFTER, MIN_PAUSE), MAX_TIMER);
  }
}
