// The values that the declarations name are those that the modules export:
//   node --test tests/modules/exports.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const FOLDER = new URL("../../src/server/client/", import.meta.url);

for (const name of ["hook", "progress", "relay"]) {
  test(`${name}.d.ts`, async () => {
    const declared = readFileSync(new URL(`${name}.d.ts`, FOLDER), "utf8").matchAll(/^export (?:class|const|function) (\w+)/gm);
    const exported = Object.keys(await import(new URL(`${name}.js`, FOLDER)));
    assert.deepEqual([...declared].map(([, it]) => it).sort(), exported.sort());
  });
}
