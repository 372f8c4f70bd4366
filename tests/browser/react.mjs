// React for pages without a build step: its packages, which are CommonJS, behind a module that exports them.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const TOOLS = new URL("../../target/tools/", import.meta.url);

const FILES = {
  react: "react/cjs/react.development.js",
  scheduler: "scheduler/cjs/scheduler.development.js",
  "react-dom": "react-dom/cjs/react-dom.development.js",
  "react-dom/client": "react-dom/cjs/react-dom-client.development.js",
};

/** The text of a module that exports what the hook and its test need. */
export function reactModule() {
  const find = createRequire(TOOLS);
  const folder = (file) => find.resolve(`${file.split("/")[0]}/package.json`).replace("package.json", "");
  const parts = Object.entries(FILES).map(([name, file]) => {
    const text = readFileSync(folder(file) + file.split("/").slice(1).join("/"), "utf8");
    return `${JSON.stringify(name)}: (exports, require, process) => {\n${text}\n}`;
  });
  return `const sources = {${parts.join(",\n")}};
const loaded = {};
function require(name) {
  if (!loaded[name]) sources[name](loaded[name] = {}, require, { env: { NODE_ENV: "development" } });
  return loaded[name];
}
export const { StrictMode, createElement, useEffect, useRef, useState } = require("react");
export const { createRoot } = require("react-dom/client");
`;
}
