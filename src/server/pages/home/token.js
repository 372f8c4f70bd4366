// The token of this tab: asked for where the relay needs one, kept in sessionStorage, shown with its owner.

import { setText } from "./elements.js";

const KEY = "token";
const $ = (id) => document.getElementById(id);

/** The token of this tab; undefined without one. Takes one out of the fragment: #token=… or #job=…&token=… */
export function takeToken() {
  // Browsers send the fragment to no server.
  const parameters = new URLSearchParams(location.hash.slice(1));
  const given = parameters.get(KEY);
  if (given) {
    sessionStorage.setItem(KEY, given);
    parameters.delete(KEY);
    history.replaceState(null, "", parameters.size ? `#${parameters}` : location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY) ?? undefined;
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

/** Shows whose token is used, and until when. */
export function showToken(token) {
  $("token-shown").hidden = !token;
  if (!token) return;
  const { sub, exp } = claims(token);
  const owner = sub ? `Token of ${sub}` : "Token without a name";
  const until = Number.isFinite(exp) ? `, until ${moment(new Date(exp * 1000))}` : "";
  setText($("token-owner"), owner + until);
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

function moment(date) {
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? time : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) return;
  sessionStorage.setItem(KEY, token);
  // Everything connects again with it; the fragment keeps the job.
  location.reload();
});

$("token-forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
