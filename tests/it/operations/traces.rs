//! The traces of jobs, as a collector of OpenTelemetry receives them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::program::Program;
use crate::support::recordings::{ERROR, TXT2IMG};
use crate::support::test_relay::{Settings, TestRelay};

/// Takes traces by OTLP.
struct Collector {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<Span>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| take(&sender, request));
                    let connection = http1::Builder::new();
                    // Fails if the relay ends.
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            received,
            _serving: serving,
        }
    }

    /// The settings of a relay that sends its traces here.
    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let url = format!("http://{}/collector/", self.address);
        settings.relay.otlp_endpoint = Some(url.parse().unwrap());
        settings
    }

    /// All spans that have come, once the relay has stopped.
    fn spans(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }
}

async fn take(
    sender: &mpsc::UnboundedSender<Span>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Empty<Bytes>>> {
    assert_eq!(request.uri().path(), "/collector/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await?.to_bytes();
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in export.resource_spans {
        let about = attributes(&resource.resource.unwrap().attributes);
        assert_eq!(about["service.name"], "comfy-relay");
        for span in resource.scope_spans.into_iter().flat_map(|it| it.spans) {
            sender.send(span).unwrap();
        }
    }
    Ok(Response::default())
}

fn attributes(
    given: &[opentelemetry_proto::tonic::common::v1::KeyValue],
) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = given.iter().map(|it| {
        let value = it.value.as_ref().and_then(|value| value.value.as_ref());
        (it.key.clone(), text(value.unwrap()))
    });
    pairs.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_one_trace() {
    let mut collector = Collector::start().await;
    let relay = TestRelay::replaying_with(TXT2IMG, collector.settings()).await;
    for job in ["first", "second"] {
        let mut subscriber = relay.subscribe(job).await;
        relay.submit(job, TXT2IMG).await;
        subscriber.ends_as("completed").await;
    }
    relay.stop().await;
    let spans = collector.spans();
    let jobs: Vec<&Span> = spans.iter().filter(|span| span.name == "job").collect();
    assert_eq!(jobs.len(), 2);
    for (whole, name) in jobs.iter().zip(["first", "second"]) {
        let about = attributes(&whole.attributes);
        assert_eq!(about["comfy.job_id"], name);
        assert_eq!(about["comfy.status"], "completed");
        assert!(about.contains_key("comfy.prompt_id") && about.contains_key("comfy.backend"));
        assert!(whole.parent_span_id.is_empty());
        let parts = spans
            .iter()
            .filter(|span| span.trace_id == whole.trace_id && span.parent_span_id == whole.span_id);
        let parts: Vec<&Span> = parts.collect();
        for part in &parts {
            assert!(
                part.start_time_unix_nano >= whole.start_time_unix_nano,
                "{part:?}"
            );
            assert!(
                part.start_time_unix_nano <= part.end_time_unix_nano,
                "{part:?}"
            );
        }
        let sampler = parts.iter().find(|span| span.name == "KSampler").unwrap();
        let about = attributes(&sampler.attributes);
        assert_eq!(about["comfy.steps"], "20");
        let names: Vec<&str> = parts.iter().map(|span| span.name.as_str()).collect();
        assert!(
            names.contains(&"wait") && names.contains(&"SaveImage"),
            "{names:?}"
        );
    }
    assert_ne!(jobs[0].trace_id, jobs[1].trace_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_job_that_has_failed_says_why() {
    let mut collector = Collector::start().await;
    let relay = TestRelay::replaying_with(ERROR, collector.settings()).await;
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", ERROR).await;
    subscriber.ends_as("failed").await;
    relay.stop().await;
    let spans = collector.spans();
    let whole = spans.iter().find(|span| span.name == "job").unwrap();
    assert_eq!(
        attributes(&whole.attributes)["error.type"],
        "execution_error"
    );
    let status = whole.status.as_ref().unwrap();
    assert_eq!(status.code, 2, "an error");
    assert!(
        status.message.contains("mat1 and mat2"),
        "{}",
        status.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up() {
    let relay = {
        let collector = Collector::start().await;
        TestRelay::replaying_with(TXT2IMG, collector.settings()).await
    };
    let mut subscriber = relay.subscribe("job").await;
    relay.submit("job", TXT2IMG).await;
    subscriber.ends_as("completed").await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_a_collector_is_checked() {
    for (address, wanted) in [
        ("collector:4318", "is not an address such as"),
        (
            "http://me:secret@collector:4318",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ),
    ] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", address)];
        let output = Program::run(&["config", "check"], &variables).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(wanted) && !text.contains("secret"), "{text}");
    }
}
