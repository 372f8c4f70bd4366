import type { ConnectionState, Preview, Problem, Progress, SocketOptions, TypedTarget } from "./relay.js";

export type { ConnectionState, Output, Preview, Problem, Progress, Status, Token } from "./relay.js";

/** Why nothing more comes of a job: no error at its end. */
export interface Ended {
  error?: string;
}

/** What a tracker and a subscription dispatch: each event's `detail`. */
export interface JobEvents {
  progress: Progress;
  /** The path of the output. */
  complete: string | undefined;
  problem: Problem;
  end: Ended;
}

export interface TrackerOptions extends Omit<SocketOptions, "server"> {
  previews?: boolean;
}

/** Follows one job: override the methods `on…`, listen to events, or iterate over its states. */
export interface AnimeProgressTracker
  extends TypedTarget<JobEvents & { preview: Preview; state: ConnectionState }>, AsyncIterable<Progress> {}
export class AnimeProgressTracker {
  constructor(jobId: string | number, serverUrl?: string, options?: TrackerOptions);
  readonly jobId: string;
  wsUrl: string;
  websocket: WebSocket | null;
  reconnectAttempts: number;
  /** Endless by default. */
  maxReconnectAttempts: number;
  readonly state: ConnectionState;
  readonly newest: Progress | null;
  readonly ended: Ended | null;
  connect(): void;
  disconnect(): void;
  cancel(): boolean;
  renew(token: string): boolean;
  secondsLeft(): number | null | undefined;
  onProgressUpdate(data: Progress): void;
  onComplete(outputPath: string | undefined): void;
  onError(data: Problem): void;
  onStateChange(state: ConnectionState): void;
  attemptReconnect(): void;
}

/** One job that is followed over the socket of a hub. */
export interface JobSubscription extends TypedTarget<JobEvents>, AsyncIterable<Progress> {
  readonly jobId: string;
  readonly newest: Progress | null;
  readonly ended: Ended | null;
  secondsLeft(): number | null | undefined;
  close(): void;
}

/** Follows several jobs over one socket. */
export interface ProgressHub extends TypedTarget<{ state: ConnectionState }> {}
export class ProgressHub {
  constructor(serverUrl?: string, options?: Omit<SocketOptions, "server">);
  readonly state: ConnectionState;
  follow(jobId: string | number): JobSubscription;
  cancel(jobId: string | number): boolean;
  renew(token: string): void;
  close(): void;
}
