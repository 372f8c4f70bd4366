// A React hook as frontends of the old system hold one: a socket for each id, no reconnect.

import { useEffect, useState } from "react";

export function useAnimeProgress(jobId, serverUrl) {
  const [state, setState] = useState({ progress: 0, status: "connecting", message: "", estimatedRemaining: null });

  useEffect(() => {
    if (!jobId) return undefined;
    const socket = new WebSocket(`${serverUrl}/ws/${jobId}`);
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "progress") {
        setState({
          progress: message.progress,
          status: message.status,
          message: message.message,
          estimatedRemaining: message.estimated_remaining,
          outputPath: message.output_path,
        });
      } else if (message.type === "error") {
        setState((before) => ({ ...before, status: "failed", error: message.error }));
      }
    };
    socket.onclose = () => setState((before) => ({ ...before, connected: false }));
    return () => socket.close();
  }, [jobId, serverUrl]);

  return state;
}
