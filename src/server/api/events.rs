//! The messages of the sockets as Server-Sent Events, for networks that block WebSockets.

mod all;
mod job;
pub(in crate::server) mod sink;

use serde_json::json;

use crate::auth::Scope;
use crate::server::contract::endpoint::Endpoint;
use crate::server::contract::parameter::Parameter;
use crate::server::selection;

/// The parameter that gives events the types of their messages as names.
pub(in crate::server) const NAMES: &str = "names";

/// The parameters of the stream of all jobs that match.
pub(in crate::server) const FEED_PARAMETERS: [&str; 9] = [
    "status",
    "backend",
    "label",
    "group",
    "workflow",
    "q",
    "previews",
    selection::INTERVAL,
    NAMES,
];

pub(in crate::server) use all::all;
pub(in crate::server) use job::job;
pub(in crate::server) use sink::head;

pub(in crate::server) fn endpoints() -> Vec<Endpoint> {
    let (job, all) = ("/api/anime/jobs/{job_id}/events", "/api/anime/jobs/events");
    let stream = |endpoint: Endpoint| {
        endpoint
            .needs(&[Scope::Subscribe])
            .takes(Parameter::flag(
                NAMES,
                "Events have the types of their messages as names.",
            ))
            .answers_media(200, "Server-Sent Events.", "text/event-stream")
            .fails(400, &["bad_query"])
    };
    let job = Endpoint::get(
        "job_events",
        job,
        "The messages of a job as Server-Sent Events",
    );
    let last = json!({"type": "string"});
    let last = Parameter::header(
        "Last-Event-ID",
        "The `seq` of the last state that the client has.",
        last,
    );
    let all = Endpoint::get(
        "events",
        all,
        "The messages of all jobs that match as Server-Sent Events",
    );
    let previews = "Not in event streams: it changes nothing.";
    vec![
        stream(job)
            .takes(last)
            .answers_nothing(
                204,
                "The client has the final state: it need not connect again.",
            )
            .fails(400, &["bad_job_id"]),
        stream(all)
            .takes_all(selection::parameters())
            .takes(Parameter::flag("previews", previews))
            .takes(selection::interval())
            .fails(400, &["bad_status"]),
    ]
}
