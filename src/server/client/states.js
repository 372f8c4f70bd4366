/**
 * The states of a job, as an async iterator, until its end. `source` dispatches `progress` and `end`, and has `newest`
 * and `ended`. A reader that is slow skips states: it gets the newest one, and always the final one. Throws an Error
 * where the job can be followed no longer. `stop` is called when the reader leaves.
 */
export async function* states(source, stop) {
  let next = source.newest;
  let wake = () => {};
  const onProgress = ({ detail }) => {
    next = detail;
    wake();
  };
  const onEnd = () => wake();
  source.addEventListener("progress", onProgress);
  source.addEventListener("end", onEnd);
  try {
    for (;;) {
      if (next) {
        const state = next;
        next = null;
        yield state;
      } else if (source.ended) {
        if (source.ended.error) throw new Error(source.ended.error);
        return;
      } else {
        await new Promise((resolve) => wake = resolve);
      }
    }
  } finally {
    source.removeEventListener("progress", onProgress);
    source.removeEventListener("end", onEnd);
    stop();
  }
}
