// Which texts the modules take for the id of a job:
//   node --test tests/modules/job_id.mjs

import assert from "node:assert/strict";
import test from "node:test";

import { AnimeProgressTracker, ProgressHub } from "../../src/server/client/progress.js";

test("a name of another socket of the relay is no job", () => {
  for (const id of ["monitor", "jobs", "events"]) {
    assert.throws(() => new AnimeProgressTracker(id, "http://127.0.0.1:1"), /is reserved/);
    assert.throws(() => new ProgressHub("http://127.0.0.1:1").follow(id), /is reserved/);
  }
});

test("a number and a group can be followed", () => {
  for (const id of [12, "jobs-12", "group:night"]) {
    assert.equal(new AnimeProgressTracker(id, "http://127.0.0.1:1").jobId, String(id));
  }
});
