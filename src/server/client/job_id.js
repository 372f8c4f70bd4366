/** The relay has sockets of these names, which follow more than one job. */
const RESERVED = ["monitor", "jobs", "events"];

/** Why a text cannot be a job id; null if it can. */
export function jobIdProblem(id) {
  if (!/^[A-Za-z0-9._:-]{1,128}$/.test(id)) {
    return "A job id has 1 to 128 of the characters A-Z a-z 0-9 . _ : -";
  }
  if (RESERVED.includes(String(id))) return `The id “${id}” is reserved: the relay has an address of this name`;
  // Browsers resolve these as relative paths, even when they are escaped.
  if (id === "." || id === "..") return "Browsers cannot request a job with this id";
  return null;
}

/** The id as text. Throws a RangeError if it cannot be a job id. */
export function checkJobId(id) {
  const problem = jobIdProblem(id);
  if (problem) throw new RangeError(problem);
  return String(id);
}
