//! How log lines look: text for people, JSON for machines; both name the trace that they belong to.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::current;
use crate::{clock, config::LogFormat};

/// The time as logs write it.
const TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// Writes one event as one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let time = clock::now().format(TIME);
        match self.0 {
            LogFormat::Text => {
                write!(writer, "{time} {:>5} {}: ", metadata.level(), metadata.target())?;
                ctx.format_fields(writer.by_ref(), event)?;
                if let Some((trace, _)) = current() {
                    write!(writer, " trace_id={}", hex(&trace))?;
                }
            }
            LogFormat::Json => {
                let mut object = Map::new();
                object.insert("timestamp".into(), time.to_string().into());
                object.insert("level".into(), metadata.level().as_str().into());
                object.insert("target".into(), metadata.target().into());
                event.record(&mut Fields(&mut object));
                if let Some((trace, span)) = current() {
                    object.insert("trace_id".into(), hex(&trace).into());
                    object.insert("span_id".into(), hex(&span).into());
                }
                writer.write_str(&Value::Object(object).to_string())?;
            }
        }
        writeln!(writer)
    }
}

/// Takes an event's fields into an object.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, value.to_string());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string doesn't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
