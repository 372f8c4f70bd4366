//! [`JobTraces`]: a trace of each job that has ended, for a collector of OpenTelemetry.
//!
//! It is made when the job ends, of what the relay knows of it by then: a span for the job from its registration to its end, and
//! in it one for the time in which it waited, and one for each node that ran.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use url::Url;

use crate::job::{Bar, Job, NodeRun};

/// Where a collector takes traces, below its address.
const TRACES_PATH: &str = "v1/traces";

/// The name of this program's traces, unless `OTEL_SERVICE_NAME` says another.
const SERVICE: &str = "comfy-relay";

/// Sends the traces, in a thread of its own.
#[derive(Debug)]
pub(super) struct JobTraces {
    /// `None` without a collector.
    provider: Option<SdkTracerProvider>,
}

impl JobTraces {
    /// Traces for the collector at an address, which need not answer yet.
    pub(super) fn new(collector: Option<&Url>) -> Result<Self, ExporterBuildError> {
        let Some(collector) = collector else {
            return Ok(Self { provider: None });
        };
        let mut url = collector.clone();
        let folder = collector.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{TRACES_PATH}"));
        let exporter = SpanExporter::builder().with_http().with_endpoint(url);
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter.build()?)
            .with_resource(resource.build());
        Ok(Self {
            provider: Some(provider.build()),
        })
    }

    /// Adds the trace of a job that has ended. Never waits: what the collector does not take in time is dropped.
    pub(super) fn on_ended(&self, job: &Job) {
        let (Some(provider), Some(ended_at)) = (&self.provider, job.ended_at()) else {
            return;
        };
        let tracer = provider.tracer(SERVICE);
        let whole = SpanBuilder::from_name("job")
            .with_kind(SpanKind::Consumer)
            .with_start_time(SystemTime::from(job.created_at()))
            .with_attributes(job_attributes(job));
        let mut whole = tracer.build_with_context(whole, &Context::new());
        let within = Context::new().with_remote_span_context(whole.span_context().clone());
        if let Some(started_at) = job.started_at() {
            let wait =
                SpanBuilder::from_name("wait").with_start_time(SystemTime::from(job.created_at()));
            let mut wait = tracer.build_with_context(wait, &within);
            wait.end_with_timestamp(SystemTime::from(started_at));
        }
        for run in job.runs() {
            add_run(&tracer, &within, job, run, ended_at);
        }
        if let Some(error) = job.error() {
            whole.set_status(Status::error(error.message.clone()));
        }
        whole.end_with_timestamp(SystemTime::from(ended_at));
    }

    /// Sends what is not sent yet. Waits for it, for some seconds at most.
    pub(super) async fn shutdown(&self) {
        let Some(provider) = self.provider.clone() else {
            return;
        };
        let ending = tokio::task::spawn_blocking(move || provider.shutdown());
        match ending.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot send the last traces"),
            Err(error) => tracing::error!(%error, "cannot end the sending of traces"),
        }
    }
}

fn job_attributes(job: &Job) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("comfy.job_id", job.id().to_string()),
        KeyValue::new("comfy.status", job.status().as_str()),
    ];
    let known = [
        ("comfy.prompt_id", job.prompt_id()),
        ("comfy.backend", job.backend()),
        ("comfy.workflow", job.tags().workflow.as_deref()),
        ("comfy.group", job.tags().group.as_deref()),
        ("error.type", job.error().map(|error| error.code.as_str())),
    ];
    for (name, value) in known {
        attributes.extend(value.map(|value| KeyValue::new(name, value.to_owned())));
    }
    for (name, value) in &job.tags().labels {
        let name = format!("comfy.label.{name}");
        attributes.push(KeyValue::new(name, value.clone()));
    }
    attributes
}

/// Adds the span of a node's run.
fn add_run(tracer: &SdkTracer, within: &Context, job: &Job, run: NodeRun<'_>, ended_at: Timestamp) {
    let class = job
        .plan()
        .node(run.display)
        .map(|node| node.class_type.clone());
    let seconds = SignedDuration::try_from_secs_f64(run.seconds(ended_at)).unwrap_or_default();
    let end = run.started_at.saturating_add(seconds).unwrap_or(ended_at);
    let mut attributes = vec![
        KeyValue::new("comfy.node", run.id.to_owned()),
        KeyValue::new("comfy.node_state", run.state.as_str()),
    ];
    if let Some((_, steps)) = run.bar.and_then(Bar::steps) {
        attributes.push(KeyValue::new("comfy.steps", i64::from(steps)));
    }
    let span = SpanBuilder::from_name(class.unwrap_or_else(|| run.display.to_owned()))
        .with_start_time(SystemTime::from(run.started_at))
        .with_attributes(attributes);
    let mut span = tracer.build_with_context(span, within);
    span.end_with_timestamp(SystemTime::from(end));
}
