//! The modules with which pages follow jobs, compiled into the program. Their folder is a package of npm as well.

/// The media type of a module.
pub(super) const CONTENT_TYPE: &str = "text/javascript; charset=utf-8";

/// The path and the text of a module.
macro_rules! module {
    ($name:literal) => {
        (
            concat!("/client/", $name),
            include_str!(concat!("client/", $name)),
        )
    };
}

const MODULES: [(&str, &str); 29] = [
    module!("backoff.js"),
    module!("close_code.js"),
    module!("duration.js"),
    module!("hook.js"),
    module!("hub.js"),
    module!("hub_socket.js"),
    module!("job_id.js"),
    module!("job_path.js"),
    module!("job_socket.js"),
    module!("job_subscription.js"),
    module!("job_view.js"),
    module!("jobs_socket.js"),
    module!("monitor_socket.js"),
    module!("preview.js"),
    module!("progress.js"),
    module!("progress_bar_job.js"),
    module!("react.js"),
    module!("relay.js"),
    module!("relay_address.js"),
    module!("relay_clock.js"),
    module!("relay_connection.js"),
    module!("seen_states.js"),
    module!("silence.js"),
    module!("socket_transport.js"),
    module!("states.js"),
    module!("status.js"),
    module!("stream_transport.js"),
    module!("token_source.js"),
    module!("tracker.js"),
];

/// The module at a path, with the path.
pub(super) fn find(path: &str) -> Option<(&'static str, &'static str)> {
    MODULES.into_iter().find(|(served, _)| *served == path)
}
