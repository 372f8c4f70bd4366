import type { Output, Status, Token } from "./relay.js";

export interface HookOptions {
  /** The relay; the one that has served the module by default. */
  server?: string;
  token?: Token;
  previews?: boolean;
}

/** What is shown of a job. */
export interface JobView {
  progress: number;
  /** `pending` before the first state. */
  status: Status | "pending";
  message: string;
  error: string | null;
  isConnected: boolean;
  /** The seconds that are left now. */
  eta: number | null;
  /** The 10th and the 90th percentile of the remaining seconds. */
  interval: [low: number, high: number] | null;
  /** The address of the newest preview image. */
  preview: string | null;
  outputs: readonly Output[];
  outputPath: string | null;
  /** How the connection is, for people. */
  connection: string;
}

export type UseAnimeProgress = (jobId: string | number | null | undefined, options?: HookOptions | string) => JobView;

/** What the hook needs of React. */
export interface Hooks {
  useEffect: (effect: () => void | (() => void), dependencies?: readonly unknown[]) => void;
  useRef: <T>(initial: T) => { current: T };
  useState: <T>(initial: T) => [T, (next: T) => void];
}

/** Makes the hook of a React that is passed. */
export function makeUseAnimeProgress(react: Hooks): UseAnimeProgress;
