//! The tables that are the relay's alone. The table `jobs` may be the pipeline's own, with types of
//! its own: its queries say which.

diesel::table! {
    /// The ComfyUI servers, and who we are to each.
    backends (name) {
        /// Host, port and path.
        name -> Text,
        /// The address.
        url -> Text,
        /// The client id of our socket and our prompts: it must outlive restarts.
        client_id -> Text,
    }
}
