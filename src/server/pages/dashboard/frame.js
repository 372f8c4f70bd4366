// What every page has around its content: language, theme, keys, the search, the sign of the connection.

import { BASE, TOKEN } from "./api.js";
import { setAttribute, setText } from "./elements.js";
import { connection } from "./live.js";
import { LANGUAGE, changeLanguage, text, translate } from "./texts.js";
import { showToken } from "./token.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);
const root = document.documentElement;

/** Prepares the frame of a page. */
export function useFrame() {
  translate();
  showToken(TOKEN, whoseToken);
  $("language").value = LANGUAGE;
  $("language").addEventListener("change", ({ target }) => changeLanguage(target.value));
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  for (const link of $("pages").children) if (link.dataset.t === root.dataset.page) link.setAttribute("aria-current", "page");
  $("theme").addEventListener("click", changeTheme);
  $("keys-open").addEventListener("click", () => $("keys").showModal());
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    find($("q").value.trim());
  });
  addEventListener("keydown", onKey);
}

/** Where a search is shown: a page with a list takes it itself. */
let find = (query) => location.assign(new URL(`history?q=${encodeURIComponent(query)}`, BASE));

/** Searches on this page. */
export function onFind(search) {
  find = search;
}

function whoseToken({ sub, exp }) {
  const owner = sub ? text("token_of", { name: sub }) : text("token_nameless");
  return Number.isFinite(exp) ? `${owner}, ${text("until", { time: words.day(exp * 1000) })}` : owner;
}

function changeTheme() {
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // It holds until the page is left.
  }
}

function onKey(event) {
  const { key, target } = event;
  if (target.matches("input, select, textarea")) {
    if (key === "Escape") target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "/") {
    event.preventDefault();
    root.classList.remove("wall");
    $("q").focus();
  } else if (key === "t") {
    changeTheme();
  } else if (key === "w" && root.dataset.page === "home") {
    root.classList.toggle("wall");
  } else if (key === "Escape") {
    root.classList.remove("wall");
  } else if (key === "?") {
    $("keys").showModal();
  }
}

/** Shows how the states come. */
export function drawConnection() {
  const { state } = connection;
  $("main").toggleAttribute("data-stale", state === "off");
  setAttribute($("live"), "data-live", state);
  setText($("live-text"), text({ wait: "connecting", on: "live", stream: "streamed", off: "not_live" }[state]));
  $("blocked").hidden = state !== "stream";
  if (state === "stream") setText($("blocked"), text("blocked"));
}
