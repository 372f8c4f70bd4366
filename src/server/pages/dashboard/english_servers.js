// The texts of the pages of the servers and connections alone in English, as in `english.js`.

export default {
  speed: "24 hours", speed_last: "{n} × as long as usual", speed_of_day: "Speed over the last 24 hours: from {from} to {to} times, lately {said}",
  queue: "Queue", queue_of: "{running} running, {pending} waiting", runs_now: "Runs", nothing: "nothing", connected: "Connected", n_connections: ["{n} connection", "{n} connections"], no_connections: "Nobody follows a job", since: "since {time}", last_sign: "last sign of life {time}", details_hidden: "The details need a token with the scope monitor.", truncated: "These are not all.",
  drain: "Drain",
};
