// Follows jobs of comfy-relay in pages and in Node. No dependencies, no build step:
//
//   import { AnimeProgressTracker } from "http://127.0.0.1:8328/client/progress.js";

export { ProgressHub } from "./hub.js";
export { AnimeProgressTracker } from "./tracker.js";
