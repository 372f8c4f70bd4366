import type { UseAnimeProgress } from "./hook.js";

export type { HookOptions, JobView } from "./hook.js";
/** Follows a job. */
export const useAnimeProgress: UseAnimeProgress;
