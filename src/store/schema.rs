//! The relay's own tables, as `migrations/` creates them. Their names are those of the default schema: see
//! [`names`](super::names).

diesel::table! {
    use diesel::sql_types::*;
    use crate::store::moment::MomentSql;

    /// One row a job.
    comfy_relay.jobs (job_key) {
        /// The public job id.
        job_key -> Text,
        /// ComfyUI's id for it.
        prompt_id -> Nullable<Text>,
        /// Where it runs.
        backend -> Nullable<Text>,
        /// `queued`, `processing`, `completed`, `failed` or `cancelled`.
        status -> Text,
        /// 0 to 100.
        progress -> BigInt,
        /// Estimated seconds until the end.
        estimated_remaining -> Nullable<BigInt>,
        /// The message of its producer.
        message -> Nullable<Text>,
        /// The first final output.
        output_path -> Nullable<Text>,
        /// What went wrong.
        error_message -> Nullable<Text>,
        /// The error code of a failed job.
        error_code -> Nullable<Text>,
        /// From which source the relay learned of its end.
        learned_from -> Nullable<Text>,
        /// The sequence number of the state.
        seq -> BigInt,
        /// All output files.
        outputs -> Json,
        /// When it was registered.
        created_at -> MomentSql,
        /// When execution began.
        started_at -> Nullable<MomentSql>,
        /// When the relay learned of its end.
        completed_at -> Nullable<MomentSql>,
        /// When the state was published.
        last_updated -> MomentSql,
        /// Whether its end is still to be written to the pipeline's table.
        mirror_due -> Bool,
        /// The id of the row that the relay inserted into the pipeline's table.
        pipeline_id -> Nullable<Text>,
        /// The relay that writes it.
        owner -> Nullable<Text>,
        /// How often another relay has taken it over.
        epoch -> BigInt,
        /// What a client has said of it: a JSON object of texts.
        labels -> Nullable<Text>,
        /// Its group.
        job_group -> Nullable<Text>,
        /// The name of the workflow that was submitted.
        workflow -> Nullable<Text>,
        /// Whether its server was asked to stop it, and has not yet.
        cancelling -> Nullable<Bool>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::store::moment::MomentSql;

    /// One row for each execution of a node.
    comfy_relay.node_runs (id) {
        /// A number, which grows.
        id -> BigInt,
        /// The job.
        job_key -> Text,
        /// The job's backend.
        backend -> Nullable<Text>,
        /// The run's id.
        node -> Text,
        /// The node's class.
        class -> Nullable<Text>,
        /// What its cost depends on.
        signature -> Nullable<Text>,
        /// When it began.
        started_at -> MomentSql,
        /// How long it took.
        seconds -> Double,
        /// The steps of its bar.
        steps -> Nullable<BigInt>,
        /// Whether its result was cached.
        cached -> Bool,
        /// The amount of work.
        units -> Nullable<Double>,
        /// The steps that the graph asks for.
        planned_steps -> Nullable<BigInt>,
        /// Whether models had to be loaded from disk.
        cold -> Nullable<Bool>,
        /// Seconds for each tick of its bar after the first.
        tick -> Nullable<Double>,
        /// The ticks of all its bars together.
        ticks -> Nullable<Double>,
        /// How often it called its model.
        calls -> Nullable<Double>,
        /// A hash of its models.
        models -> Nullable<BigInt>,
        /// Whether another node began during it.
        parallel -> Nullable<Bool>,
        /// The node of the graph that it counts as; null if it is that node itself.
        display -> Nullable<Text>,
        /// The title that the author gave the node.
        title -> Nullable<Text>,
        /// How it ended, in one word.
        state -> Nullable<Text>,
    }
}

diesel::table! {
    /// The backends.
    comfy_relay.backends (name) {
        /// Host, port and path.
        name -> Text,
        /// The address.
        url -> Text,
        /// The client id of our socket and our prompts, which must outlive restarts.
        client_id -> Text,
    }
}

diesel::table! {
    /// The backends that operators have added.
    comfy_relay.added_backends (name) {
        /// What it is called.
        name -> Text,
        /// The address, without credentials.
        url -> Text,
        /// A JSON object of texts.
        labels -> Text,
    }
}

diesel::table! {
    /// Which relay follows a backend.
    comfy_relay.leases (backend) {
        /// The backend's name.
        backend -> Text,
        /// The relay.
        holder -> Text,
        /// Until when, in milliseconds since 1970.
        held_until -> BigInt,
        /// How many prompts the backend has.
        prompts -> BigInt,
        /// When it is done with them, in milliseconds since 1970.
        free_at -> Nullable<BigInt>,
        /// How it is, as the relay says that follows it: a JSON object.
        report -> Nullable<Text>,
        /// The relay that would take it over.
        wanted_by -> Nullable<Text>,
        /// Until when it would, in milliseconds since 1970.
        wanted_until -> Nullable<BigInt>,
    }
}

diesel::table! {
    /// The relays that run.
    comfy_relay.relays (owner) {
        /// The relay.
        owner -> Text,
        /// Until when, in milliseconds since 1970.
        held_until -> BigInt,
        /// How many connections its subscribers have.
        connections -> BigInt,
        /// How many jobs they follow.
        followed_jobs -> BigInt,
        /// Its newest jobs, and who is connected to it: a JSON object.
        list -> Nullable<Text>,
    }
}

diesel::table! {
    /// How far the rows of an earlier release's tables are copied.
    comfy_relay.imports (source) {
        /// The table.
        source -> Text,
        /// The key of the last row that was copied.
        position -> Text,
        /// Whether all are.
        is_complete -> Bool,
    }
}

diesel::table! {
    /// What is to be handed in to ComfyUI for a job.
    comfy_relay.submissions (job_key) {
        /// The job.
        job_key -> Text,
        /// `waiting`, `handed_in` or `withdrawn`.
        state -> Text,
        /// The order of arrival: microseconds since 1970.
        place -> BigInt,
        /// Higher ones come first.
        priority -> BigInt,
        /// For whom it is.
        share -> Nullable<Text>,
        /// The backend that has it, or is claimed for it.
        backend -> Nullable<Text>,
        /// Under which prompt id.
        prompt_id -> Text,
        /// How often it was handed in or waits to be, from 1.
        attempt -> BigInt,
        /// How often it may be handed in again after it is lost.
        retries -> BigInt,
        /// The attempts that were lost: a JSON list.
        lost -> Text,
        /// Of the body of the request.
        digest -> Nullable<Text>,
        /// The job that it repeats.
        retry_of -> Nullable<Text>,
        /// The graph and everything that is passed on with it: JSON, compressed.
        request -> Binary,
        /// Keys of partner nodes, sealed.
        secrets -> Nullable<Binary>,
    }
}

diesel::table! {
    /// What operators have stopped.
    comfy_relay.operations (subject) {
        /// `queue`, or `backend:NAME`.
        subject -> Text,
        /// `paused`, `draining`, `removing` or `removing_at_once`.
        state -> Text,
    }
}

diesel::table! {
    /// Which jobs are to be cancelled, by requests to a relay that does not follow their backends.
    comfy_relay.cancel_requests (job_key) {
        /// The job.
        job_key -> Text,
        /// Milliseconds since 1970.
        asked_at -> BigInt,
    }
}

diesel::table! {
    /// Files that clients have uploaded for graphs to load.
    comfy_relay.assets (id) {
        /// Names it.
        id -> Text,
        /// Of its content.
        hash -> Text,
        /// How large it is.
        size_bytes -> BigInt,
        /// The media type, as the client says.
        content_type -> Text,
        /// As the client calls it.
        file_path -> Text,
        /// In the input folders of the ComfyUI servers.
        filename -> Text,
        /// Milliseconds since 1970.
        created_at -> BigInt,
    }
}

diesel::table! {
    /// Which jobs a request with an Idempotency-Key makes or has made.
    comfy_relay.requests (request_key) {
        /// A digest of the key and of whom it belongs to.
        request_key -> Text,
        /// Of its body.
        digest -> Text,
        /// Their ids and their group: JSON.
        made -> Text,
        /// The relay that makes them.
        owner -> Text,
        /// Milliseconds since 1970.
        created_at -> BigInt,
    }
}

diesel::table! {
    /// What is to be sent to webhooks, and what was.
    comfy_relay.webhook_deliveries (id) {
        /// The header `webhook-id`.
        id -> Text,
        /// Where it is sent.
        url -> Text,
        /// The type of the event.
        event -> Text,
        /// The job that it is about.
        job_key -> Nullable<Text>,
        /// The body.
        payload -> Text,
        /// Milliseconds since 1970, as all times here.
        created_at -> BigInt,
        /// `pending`, `delivered`, `failed` or `gone`.
        state -> Text,
        /// How often it was sent.
        attempts -> BigInt,
        /// When it is sent, or sent again.
        due_at -> BigInt,
        /// The relay that sends it.
        claimed_by -> Nullable<Text>,
        /// Until when no other one does.
        claimed_until -> Nullable<BigInt>,
        /// What the last attempt was answered.
        last_status -> Nullable<BigInt>,
        /// Why the last attempt failed.
        last_error -> Nullable<Text>,
        /// When it was delivered or given up.
        ended_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    /// The webhooks of single jobs.
    comfy_relay.job_webhooks (job_key, event) {
        /// The job.
        job_key -> Text,
        /// The event that is sent; that of progress with its percentage behind a colon.
        event -> Text,
        /// Where it is sent.
        url -> Text,
    }
}

diesel::table! {
    /// The targets that have answered that they are gone.
    comfy_relay.gone_webhooks (url) {
        /// The target.
        url -> Text,
        /// Milliseconds since 1970.
        gone_at -> BigInt,
    }
}

diesel::table! {
    /// Pictures that workflows load.
    comfy_relay.input_files (name) {
        /// A digest of the content, and how the name of such a file ends.
        name -> Text,
        /// Of the content, in bytes.
        size -> BigInt,
        /// When it was sent or used last, in milliseconds since 1970.
        used_at -> BigInt,
        /// The file.
        content -> Binary,
    }
}

diesel::allow_tables_to_appear_in_same_query!(jobs, node_runs);
diesel::allow_tables_to_appear_in_same_query!(submissions, leases);
diesel::allow_tables_to_appear_in_same_query!(submissions, jobs);
diesel::allow_tables_to_appear_in_same_query!(jobs, leases);
