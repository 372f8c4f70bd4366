// Follows jobs with the modules of the client, and prints what happens, one line of JSON for each event:
//
//   node --experimental-websocket tests/modules/run.mjs SCENARIO http://127.0.0.1:8328 [ARGUMENT…]
//
// Ends with {"event": "done"}. Node 22 and newer need no flag.

import { AnimeProgressTracker, ProgressHub } from "../../src/server/client/progress.js";

const [scenario, server, ...given] = process.argv.slice(2);

function print(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

const Native = globalThis.WebSocket;
if (Native) {
  globalThis.WebSocket = class extends Native {
    constructor(...given) {
      super(...given);
      print("socket");
      this.addEventListener("message", ({ data }) => JSON.parse(data).type === "auth" && print("renewed"));
    }
  };
}

function printConnection(source) {
  source.addEventListener("state", ({ detail: { state, note, code } }) => print(state, { note, code }));
}

/** Prints the states of a tracker or a subscription until its end. */
async function printStates(job) {
  job.addEventListener("problem", ({ detail: { code } }) => print("problem", { job: job.jobId, code }));
  try {
    for await (const { job_id, status, progress, seq } of job) print("progress", { job: job_id, status, progress, seq });
    print("ended", { job: job.jobId });
  } catch (error) {
    print("refused", { job: job.jobId, error: error.message });
  }
}

/** A class as it was written for the tracker of the system before: it overrides what it needs, and reads its fields. */
class PageTracker extends AnimeProgressTracker {
  constructor(jobId, serverUrl) {
    super(jobId, serverUrl);
    this.maxReconnectAttempts = 3;
  }

  connect() {
    super.connect();
    print("connect", { attempts: this.reconnectAttempts, url: this.wsUrl, job: this.jobId });
    this.websocket.onopen = () => print("open", { attempts: this.reconnectAttempts });
  }

  onProgressUpdate(data) {
    print("update", { progress: data.progress, status: data.status });
    if (data.status === "completed") this.onComplete(data.output_path);
  }

  onComplete(outputPath) {
    print("completed", { output_path: outputPath ?? null, ready: this.websocket?.readyState });
  }

  onError(data) {
    print("error", { error: data.error });
  }

  attemptReconnect() {
    print("lost", { attempts: this.reconnectAttempts });
    super.attemptReconnect();
  }
}

const SCENARIOS = {
  /** JOB: its states, and the connection. */
  async follow(job) {
    const tracker = new AnimeProgressTracker(job, server);
    printConnection(tracker);
    await printStates(tracker);
  },
  /** JOB PROGRESS: leaves the iteration at this progress, which ends the connection. */
  async leave(job, progress) {
    const tracker = new AnimeProgressTracker(job, server);
    printConnection(tracker);
    for await (const state of tracker) if (state.progress >= Number(progress)) break;
  },
  /** JOB: with a subclass that was written for the tracker of the system before. */
  subclass(job) {
    const tracker = new PageTracker(job, server.replace("http", "ws"));
    tracker.connect();
    return new Promise((resolve) => tracker.addEventListener("end", resolve));
  },
  /** JOB: a tracker that gives up. */
  async impatient(job) {
    const tracker = new AnimeProgressTracker(job, server);
    tracker.maxReconnectAttempts = 1;
    printConnection(tracker);
    await printStates(tracker);
  },
  /** JOB TOKEN…: a callback that returns these in turn, and the last one for ever. */
  async tokens(job, ...tokens) {
    const token = async () => {
      print("asked");
      return tokens.length > 1 ? tokens.shift() : tokens[0];
    };
    const tracker = new AnimeProgressTracker(job, server, { token });
    printConnection(tracker);
    await printStates(tracker);
  },
  /** JOB: with a callback that throws the first time. */
  async throws(job) {
    let asked = 0;
    const token = () => {
      asked += 1;
      if (asked === 1) throw new Error("no one is signed in");
    };
    const tracker = new AnimeProgressTracker(job, server, { token });
    printConnection(tracker);
    await printStates(tracker);
  },
  /** JOB…: all over one socket. */
  async hub(...jobs) {
    const hub = new ProgressHub(server);
    printConnection(hub);
    await Promise.all(jobs.map((job) => printStates(hub.follow(job))));
  },
  /** FIRST SECOND: follows the second when the first has come, leaves the first, and follows the second twice. */
  async change(first, second) {
    const hub = new ProgressHub(server);
    const before = hub.follow(first);
    await new Promise((resolve) => before.addEventListener("progress", resolve, { once: true }));
    const after = [hub.follow(second)];
    await new Promise((resolve) => after[0].addEventListener("progress", resolve, { once: true }));
    after.push(hub.follow(second));
    before.close();
    print("changed");
    await Promise.all(after.map(printStates));
  },
};

await SCENARIOS[scenario](...given);
print("done");
// A socket that was forgotten would keep the program alive.
const left = setTimeout(() => {
  print("alive", { resources: process.getActiveResourcesInfo() });
  process.exit(1);
}, 5_000);
left.unref();
