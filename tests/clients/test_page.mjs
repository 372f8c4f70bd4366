// The hashes in the page's Content-Security-Policy are those of its style and its script:
//   node --test tests/clients/test_page.mjs      (UPDATE=1 writes them)

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import test from "node:test";

const FILE = new URL("../../src/server/pages/websocket_test_client.html", import.meta.url);

test("a browser runs the page's style and script under its policy", () => {
  let page = readFileSync(FILE, "utf8");
  for (const [element, directive] of [["style", "style-src"], ["script", "script-src"]]) {
    const parts = [...page.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, "gs"))];
    assert.equal(parts.length, 1, `one ${element}`);
    const hash = `'sha256-${createHash("sha256").update(parts[0][1]).digest("base64")}'`;
    if (process.env.UPDATE) page = page.replace(new RegExp(`${directive} [^;]*`), `${directive} ${hash}`);
    assert.ok(page.includes(`${directive} ${hash};`), `${directive} must be ${hash}`);
  }
  if (process.env.UPDATE) writeFileSync(FILE, page);
});

test("the page loads nothing from elsewhere and has no inline handlers", () => {
  const page = readFileSync(FILE, "utf8");
  assert.doesNotMatch(page, /(src|href)="(?!data:)/);
  assert.doesNotMatch(page, /<[^>]+\s(on[a-z]+|style)=/);
});
