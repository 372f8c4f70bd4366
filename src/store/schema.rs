//! The table that only the relay uses. The table `jobs` is not declared here: the pipeline may have made it, with
//! column types of its own, so its queries are written as SQL.

diesel::table! {
    /// The backends.
    backends (name) {
        /// Host, port and path.
        name -> Text,
        /// The address.
        url -> Text,
        /// The client id of our socket and our prompts, which must outlive restarts.
        client_id -> Text,
    }
}
