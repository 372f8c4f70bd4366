/** How a connection is. */
export interface ConnectionState {
  state: "connecting" | "open" | "waiting" | "closed";
  /** For people. */
  text: string;
  /** What is special about an open connection. */
  note?: string;
  code?: number;
  reason?: string;
  /** The milliseconds until the next attempt. */
  delay?: number;
}

export type Status = "queued" | "processing" | "completed" | "failed" | "cancelled";

/** A file that a job has made, or a text that one of its nodes shows. */
export interface Output {
  node: string;
  kind: string;
  /** Empty for a text. */
  filename: string;
  subfolder: string;
  /** `output`, `temp` or `input`; `text` for a text. */
  type: string;
  url: string;
  /** A text, once the job has ended. */
  text?: string;
  /** The text goes on. */
  truncated?: boolean;
}

/** A state of a job, as the relay sends it. Later versions may add fields. */
export interface Progress {
  type: "progress";
  job_id: string;
  status: Status;
  /** 0 to 100; never falls, 100 only when completed. */
  progress: number;
  /** Seconds; null until there is evidence. */
  estimated_remaining: number | null;
  /** The 10th and the 90th percentile of it. */
  estimated_low?: number;
  estimated_high?: number;
  estimated_completion?: string;
  /** When a job that waits will begin. */
  estimated_start?: string;
  /** It waits in the relay's own queue; `message` says what for. */
  waiting_for?: "server";
  /** Which attempt it is, from 2: those before were lost with their servers. */
  attempt?: number;
  /** ComfyUI was asked to stop it, and has not yet. */
  cancelling?: true;
  message: string;
  output_path?: string;
  error?: string;
  timestamp: string;
  prompt_id?: string;
  seq: number;
  node?: { id: string; class_type: string | null; title: string | null; step: number | null; steps: number | null };
  nodes?: { done: number; cached: number; total: number };
  queue_position?: number;
  elapsed?: number;
  outputs?: Output[];
  outputs_total?: number;
  backend?: string;
  /** Short texts by their keys: what the job is to those who submitted it. */
  labels?: Record<string, string>;
  /** The group that it belongs to. */
  group?: string;
  /** The name of the workflow that was submitted. */
  workflow?: string;
}

/** What is wrong with an input of a node. */
export interface WrongInput {
  node: string;
  class_type: string;
  /** Empty for what is about a whole node. */
  input: string;
  /** ComfyUI's word for what is wrong. */
  code?: string;
  message: string;
}

/** The answer to `POST /api/anime/jobs`, and to a retry. */
export interface Submitted {
  job_id: string;
  prompt_id: string;
  backend: string;
  ws_url: string;
  urls: { self: string; events: string; cancel: string; ws: string };
  /** What it waits for, where ComfyUI does not answer. */
  message?: string;
  /** The inputs because of which ComfyUI leaves outputs out, the first 50. */
  ignored?: WrongInput[];
  /** It is the answer to an earlier request. */
  replayed?: true;
  /** The job that it repeats. */
  retry_of?: string;
}

/** The answer to `POST /api/anime/batches`. */
export interface SubmittedBatch {
  group: string;
  ws_url: string;
  jobs: Pick<Submitted, "job_id" | "prompt_id" | "backend" | "ws_url">[];
  /** It is the answer to an earlier request. */
  replayed?: true;
}

/** An `error` message. */
export interface Problem {
  type: "error";
  job_id?: string;
  error: string;
  /** A stable word; undefined where a proxy answers in place of the relay. */
  code?: string;
  timestamp?: string;
}

export interface Preview {
  type: "preview";
  job_id: string;
  node: string;
  mime: string;
  seq: number;
  blob: Blob;
}

/** A token, or a function that returns one, and is asked again before it expires. */
export type Token = string | (() => string | Promise<string>);

export interface SocketOptions {
  /** The relay, by http, https, ws or wss; the one that has served the module by default. */
  server?: string;
  token?: Token;
  /** Another WebSocket than the global one, or null for Server-Sent Events. */
  WebSocket?: (new (url: string | URL, protocols?: string | string[]) => WebSocket) | null;
}

/** What a connection dispatches: each event's `detail`. */
export interface ConnectionEvents {
  state: ConnectionState;
  unregistered: { job_id: string; message: string; job_wait: number };
  progress: Progress;
  problem: Problem;
  status: Record<string, unknown>;
  preview: Preview;
  raw: { out: boolean; text?: string; header?: unknown; size?: number };
}

/** An EventTarget whose events have a known `detail`. */
export interface TypedTarget<Events> extends EventTarget {
  addEventListener<Name extends keyof Events & string>(
    name: Name,
    listener: (event: CustomEvent<Events[Name]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    name: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

export interface RelayConnection extends TypedTarget<ConnectionEvents> {
  readonly state: ConnectionState;
  readonly socket: WebSocket | null;
  url: string | URL;
  connect(): void;
  /** Disconnects, and does not reconnect. */
  close(): void;
  /** Sends a message; false while there is no socket. */
  send(message: unknown): boolean;
  renew(token: string): boolean;
  /** The seconds until the job ends, as of now. */
  secondsLeft(message: Progress): number | null | undefined;
}

export interface JobSocket extends RelayConnection {
  readonly id: string;
  cancel(): boolean;
}
export const JobSocket: new (id: string, options?: SocketOptions & { previews?: boolean }) => JobSocket;

/** Follows all jobs that are open or will be. */
export interface JobsSocket extends RelayConnection {}
export const JobsSocket: new (options?: SocketOptions & {
  previews?: boolean;
  /** At most one state and one preview of each job in so many milliseconds, up to 10,000. */
  interval?: number;
}) => JobsSocket;

export interface MonitorSocket extends RelayConnection {}
export const MonitorSocket: new (options?: Pick<SocketOptions, "server" | "token">) => MonitorSocket;

export const FINAL: ReadonlySet<string>;
/** What a close code means. */
export function closeText(code: number): string;
/** A number of seconds as text. */
export function duration(seconds: number): string;
/** The remaining time of a job as text; empty while it is unknown. */
export function remaining(
  state: { status: string; estimated_remaining?: number | null },
  seconds?: number | null,
): string;
/** Why a text cannot be a job id; null if it can. */
export function jobIdProblem(id: string): string | null;
