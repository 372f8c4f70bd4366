/** The statuses that never change again. */
export const FINAL = new Set(["completed", "failed", "cancelled"]);
