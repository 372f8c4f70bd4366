// The texts of the page of a job alone in English, as in `english.js`.

export default {
  step_of: "step {step} of {steps}",
  copy_link: "Copy link", run_again: "Run again", run_again_failed: "It cannot be run again: {reason}",
  where: "Where you are", sent: "sent {time}", on_server: "on", no_picture: "No picture yet", no_picture_more: "Previews come with the first step of a sampler.", no_picture_made: "No picture", no_picture_made_more: "This job has made none.",
  previews_outputs: "Previews and outputs", newest: "newest", download: "Open the file",
  began: "began {time}", soft_end: "the end lies in the soft part", nine_in_ten: "done {time}, eight times in ten inside this interval", done_about: "done {time}",
  starts_in: "starts in {time}", starts_now: "starts next", ahead_on: ["{n} ahead on {server}", "{n} ahead on {server}"],
  took_time: "took {time}", predicted_began: "predicted {time} when it began", ended_at: "ended {time}", stopped_after: "stopped after {time}",
  not_here: "Not here yet", not_registered: "Nobody has registered this job", waiting_more: "Waiting {n} s more. If it comes later, open this page again.",
  no_such_job: "There is no such job", no_such_job_more: "Nobody has registered it in time. If it comes later, open this page again.", token_no: "The token does not permit this",
  server_away: "Server away", unknown_away: "not known while the server is away", last_heard: "last heard {time}; the job may go on there",
  makes: "What it makes", model: "Model", size: "Size", sampler: "Sampler", seed: "Seed", prompt: "Prompt", pictures: ["{size}, one picture", "{size}, {n} pictures"], frames: "{size}, {n} frames", steps: "{n} steps", cfg: "cfg {n}",
  shown: "Texts", shown_by: "Text of {name}",
  next_on: "Next on {server}",
  node: "node {id}", runs_after: "runs after {name}", nodes: "Nodes", nodes_cached: "{n} of them cached", key_took: "took", key_predicted: "predicted", key_cached: "cached",
  from_cache: "from the cache", cached: "cached", of_time: "of {time}", failed_after: "failed after {time}", not_reached: "not reached", interrupted: "stopped after {time}",
  s_finished: "done", s_running: "running", s_failed: "failed", s_cached: "taken from the cache", s_waiting: "waiting", s_not_run: "not reached", s_interrupted: "stopped",
  how_good: "How good the estimate was", part: "Part", source: "Where it comes from", predicted_h: "Predicted", took_h: "Took", left_h: "Left", all_nodes: "All nodes",
  no_estimate: "There is nothing to estimate yet.", estimate_lost: "What was predicted is not kept across a restart.",
  from_signature: ["{n} earlier run of this size", "{n} earlier runs of this size"], from_class: ["{n} earlier run in other sizes", "{n} earlier runs in other sizes"], from_other_backend: ["{n} earlier run on another server", "{n} earlier runs on other servers"], from_role: ["{n} earlier run of similar nodes", "{n} earlier runs of similar nodes"], from_table: "a guess: it has never run here", measured: "step {seen} of {steps}, measured in this run", cold: "models are read from the disk", shorter: ["{n} shorter node", "{n} shorter nodes"], inside: "inside the interval", outside: "outside the interval",
  take: "Take it with you", link: "Link", terminal: "Terminal", socket: "Socket", prompt_id: "Prompt id", error_all: "The whole error", copy_error: "Copy error", like_it: "Failures on this server",
};
