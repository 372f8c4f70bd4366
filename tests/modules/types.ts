// What users of the client write, for `tsc`: each line that must be refused says so.

import { AnimeProgressTracker, ProgressHub, type Progress } from "../../src/server/client/progress.js";
import { useAnimeProgress } from "../../src/server/client/react.js";
import { makeUseAnimeProgress } from "../../src/server/client/hook.js";
import { FINAL, JobSocket, MonitorSocket, remaining } from "../../src/server/client/relay.js";
import "../../src/server/client/progress_bar_job.js";
import * as React from "react";

class Bar extends AnimeProgressTracker {
  override onProgressUpdate(data: Progress) {
    const percent: number = data.progress;
    const name: string | undefined = data.labels?.shot ?? data.group ?? data.workflow;
    const seconds: number | null = data.estimated_remaining;
    if (data.status === "completed") this.onComplete(data.output_path);
    // @ts-expect-error it may be unknown
    seconds.toFixed();
    // @ts-expect-error there is no such status
    return data.status === "done" && percent && name;
  }
}

export async function follow(token: () => Promise<string>) {
  const tracker = new Bar("shot-12", "ws://127.0.0.1:8328", { token, previews: true });
  tracker.addEventListener("complete", ({ detail }) => detail?.toUpperCase());
  tracker.addEventListener("state", ({ detail }) => detail.text);
  tracker.maxReconnectAttempts = 5;
  tracker.addEventListener("problem", ({ detail }) => detail.code?.trim());
  for await (const state of tracker) state.message.trim();
  for await (const { nodes } of new ProgressHub("https://host/", { token: "text" }).follow(12)) nodes?.done.toFixed();
  // @ts-expect-error the id is missing
  new AnimeProgressTracker();
  const socket = new JobSocket("shot-12", { previews: true });
  socket.addEventListener("preview", ({ detail }) => URL.createObjectURL(detail.blob));
  new MonitorSocket({ token }).connect();
  return FINAL.has("failed") && remaining({ status: "queued", estimated_remaining: 3 });
}

export function Job({ id }: { id: string | null }) {
  const { progress, eta, interval, outputs, error } = useAnimeProgress(id, { server: "https://host/", previews: true });
  const [low, high] = interval ?? [0, 0];
  const same: typeof useAnimeProgress = makeUseAnimeProgress(React);
  // @ts-expect-error there is no such option
  same(id, { adress: "https://host/" });
  return [progress, eta, low + high, outputs[0]?.url, error];
}

const element = document.createElement("progress-bar-job");
element.token = () => "token";
