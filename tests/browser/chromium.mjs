// What the browser tests share: Chromium, driven by playwright-core, and lines of JSON for the tests.

import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TOOLS = new URL("../../target/tools/", import.meta.url);
const { chromium } = createRequire(TOOLS)("playwright-core");

export const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export function print(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

/** Runs `test` with a new page of a browser that is gone afterwards. Prints what the page's console complains of. */
export async function withPage(test, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), "comfy-relay-chromium-"));
  const browser = await chromium.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS, ...options,
  });
  try {
    const page = await browser.newPage();
    page.on("pageerror", (error) => print("page_error", { text: String(error) }));
    page.on("console", (message) => {
      if (message.type() === "error") print("console_error", { text: message.text() });
    });
    await test(page, browser);
    print("done");
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A plain file server for one file at any path, on another origin than the relay's. Returns its port. */
export function serveFile(file) {
  const text = readFileSync(file);
  const server = createServer((_, response) => response.setHeader("content-type", "text/html; charset=utf-8").end(text));
  server.unref();
  return new Promise((resolve) => server.listen(0, "localhost", () => resolve(server.address().port)));
}
