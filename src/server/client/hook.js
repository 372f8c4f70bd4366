import { EMPTY_VIEW, JobView } from "./job_view.js";

/** Makes the hook useAnimeProgress() from a React that is passed, for pages that import none by its name. */
export function makeUseAnimeProgress({ useEffect, useRef, useState }) {
  return function useAnimeProgress(jobId, options = {}) {
    const { server, token, previews = false } = typeof options === "string" ? { server: options } : options;
    const [shown, setShown] = useState({ jobId: null, value: EMPTY_VIEW });
    const newestToken = useRef(token);
    const view = useRef(null);

    useEffect(() => {
      const isNewer = newestToken.current !== token;
      newestToken.current = token;
      if (isNewer && typeof token === "string") view.current?.renew(token);
    }, [token]);

    useEffect(() => {
      if (jobId == null || jobId === "") return undefined;
      // A function is another one in every render: the newest is asked.
      const current = typeof newestToken.current === "function" ? () => newestToken.current() : newestToken.current;
      const changed = (value) => setShown({ jobId, value });
      const followed = view.current = new JobView(jobId, { server, token: current, previews }, changed);
      followed.start();
      return () => followed.stop();
    }, [jobId, server, previews]);

    // The first render with another id shows nothing of the job before.
    return shown.jobId === jobId ? shown.value : EMPTY_VIEW;
  };
}
