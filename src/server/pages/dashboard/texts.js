// The texts of the pages, in the language of their reader.

/** The files of the languages: a reader loads one of them, and on some pages one that is called after it as well. */
const FILES = { en: "english", de: "german", ja: "japanese" };
const KEY = "language";

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function choose() {
  const wanted = [new URLSearchParams(location.search).get("lang"), stored(), ...(navigator.languages ?? [])];
  const known = wanted.map((language) => language?.slice(0, 2).toLowerCase()).find((language) => language in FILES);
  return known ?? "en";
}

/** The language of the page: `en`, `de` or `ja`. */
export const LANGUAGE = choose();
const PLURALS = new Intl.PluralRules(LANGUAGE);
const PART = { job: "_job", servers: "_servers", connections: "_servers", submit: "_submit" }[document.documentElement.dataset.page];
const PARTS = ["", PART ?? []].flat();
const MODULES = await Promise.all(PARTS.map((part) => import(`./${FILES[LANGUAGE]}${part}.js`)));
const TABLE = Object.assign({}, ...MODULES.map((module) => module.default));

/** Keeps another language for all pages, and shows this one in it. */
export function changeLanguage(language) {
  try {
    localStorage.setItem(KEY, language);
  } catch {
    // Without a storage the language is that of the address.
  }
  const address = new URL(location.href);
  address.searchParams.set("lang", language);
  location.replace(address);
}

/** A text with its values; `{n}` decides between singular and plural. */
export function text(key, values = {}) {
  let found = TABLE[key] ?? key;
  if (Array.isArray(found)) found = found[PLURALS.select(values.n) === "one" ? 0 : 1];
  return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Translates what is in the HTML. */
export function translate(root = document) {
  document.documentElement.lang = LANGUAGE;
  if (LANGUAGE === "en") return;
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = text(element.dataset.t);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}
