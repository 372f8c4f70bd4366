//! [`JsonLine`]: a line of the log as one JSON object.

use std::error::Error;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::job::printable_json;

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Writes `timestamp`, `level`, `target`, `message` and the fields of an event, and those of the spans around it: `job_id` and
/// `backend` under their own names, and the `id` of a request as `request_id`.
#[derive(Debug)]
pub(super) struct JsonLine;

/// The fields of one event, in their order.
struct EventFields<'a>(&'a mut Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for JsonLine {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let mut add = |name: &str, value: String| line.insert(name.to_owned(), value.into());
        add("timestamp", Timestamp::now().to_string());
        add("level", event.metadata().level().to_string());
        add("target", event.metadata().target().to_owned());
        event.record(&mut EventFields(&mut line));
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<JsonFields>>() else {
                continue;
            };
            let fields: Map<String, Value> =
                serde_json::from_str(&fields.fields).unwrap_or_default();
            for (name, value) in fields {
                let name = match &*name {
                    "id" => format!("{}_id", span.name()),
                    _ => name,
                };
                line.entry(name).or_insert(value);
            }
        }
        writeln!(
            writer,
            "{}",
            printable_json(&Value::Object(line).to_string())
        )
    }
}

impl EventFields<'_> {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for EventFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    /// With its causes, which a text format shows as well.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| Error::source(*error));
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        self.add(field, causes.join(": "));
    }
}
