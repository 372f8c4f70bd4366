// The token of this tab: asked for where the relay needs one, kept in sessionStorage, shown with its owner.

import { setText } from "./elements.js";

const KEY = "token";
const $ = (id) => document.getElementById(id);

/** The storage of this tab. Browsers can deny it: then the token is kept until the page is left. */
const storage = (() => {
  try {
    sessionStorage.getItem(KEY);
    return sessionStorage;
  } catch {
    const kept = new Map();
    return { getItem: (key) => kept.get(key), setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key), isDenied: true };
  }
})();

/** The token of this tab; undefined without one. Takes one out of the fragment: #token=… or #job=…&token=… */
export function takeToken() {
  // Browsers send the fragment to no server.
  const parameters = new URLSearchParams(location.hash.slice(1));
  const given = parameters.get(KEY);
  if (given) {
    storage.setItem(KEY, given);
    parameters.delete(KEY);
    history.replaceState(null, "", parameters.size ? `#${parameters}` : location.pathname + location.search);
  }
  return storage.getItem(KEY) ?? undefined;
}

/** What a token says of itself; it is the relay that verifies it. Empty if it is none. */
export function claims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}

/** Shows whose token is used, and until when: `describe` puts its claims into words. */
export function showToken(token, describe) {
  $("token-shown").hidden = !token;
  if (!token) return;
  setText($("token-owner"), describe(claims(token)));
}

/** Asks for a token. `why` is the relay's reason, if it has given one, and after it where other clients put theirs. */
export function askForToken(why) {
  const form = $("token-form");
  if (form.hidden) {
    form.hidden = false;
    $("token").focus();
  }
  if (!why) return;
  const [reason] = why.split(": ");
  setText($("token-why"), `${reason[0].toUpperCase()}${reason.slice(1)}.`);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) return;
  storage.setItem(KEY, token);
  // A reload would lose what is not stored; the fragment survives it, and no server gets to see it.
  if (storage.isDenied) {
    const parameters = new URLSearchParams(location.hash.slice(1));
    parameters.set(KEY, token);
    location.hash = `${parameters}`;
  }
  // Everything connects again with it; the fragment keeps the job.
  location.reload();
});

$("token-forget").addEventListener("click", () => {
  storage.removeItem(KEY);
  location.reload();
});
