// A small client of the relay, written against the types that are generated of its documents. Each line after
// `@ts-expect-error` is wrong, and the compiler has to find that.

import type { components, operations, paths } from "./openapi";
import type { components as messages } from "./asyncapi";

type Job = components["schemas"]["JobView"];
type Message = messages["schemas"]["Progress"] | messages["schemas"]["error"] | messages["schemas"]["connection"];
type Created = operations["create_job"]["responses"][201]["content"]["application/json"];
type Refused = operations["create_job"]["responses"][400]["content"]["application/json"];
type Page = paths["/api/anime/jobs"]["get"]["responses"][200]["content"]["application/json"];
type Query = NonNullable<paths["/api/anime/jobs"]["get"]["parameters"]["query"]>;

/** Submits a named workflow. */
export async function submit(relay: string, workflow: string): Promise<Created> {
  const body: components["schemas"]["NewJob"] = { workflow, priority: 3, labels: { shot: "12" } };
  const answer = await fetch(`${relay}/api/anime/jobs`, { method: "POST", body: JSON.stringify(body) });
  if (answer.status !== 201) {
    const { error } = (await answer.json()) as Refused;
    throw new Error(`${error.code}: ${error.message}`);
  }
  return (await answer.json()) as Created;
}

/** The failed jobs of a page. */
export async function failed(relay: string): Promise<string[]> {
  const query: Query = { status: ["failed"], limit: 20 };
  const answer = await fetch(`${relay}/api/anime/jobs?status=${query.status}&limit=${query.limit}`);
  const page = (await answer.json()) as Page;
  return page.jobs.map((job: Job) => `${job.job_id}: ${job.error ?? job.message}`);
}

/** What a message says, in a line. */
export function line(message: Message): string {
  switch (message.type) {
    case "progress":
      return `${message.progress} % ${message.message} (${message.estimated_remaining ?? "?"} s, ${message.node?.title ?? "-"})`;
    case "error":
      return `${message.code}: ${message.error}`;
    case "connection":
      return message.status;
  }
}

export function wrong(job: Job, created: Created, refused: Refused): unknown {
  // @ts-expect-error The field is `progress`.
  job.progres;
  // @ts-expect-error There is no such status.
  job.status === "done";
  // @ts-expect-error It can be `null`.
  job.estimated_remaining + 1;
  // @ts-expect-error The error is inside.
  refused.code;
  // @ts-expect-error Not every job has one.
  job.output_path.length;
  return created.urls.self;
}
