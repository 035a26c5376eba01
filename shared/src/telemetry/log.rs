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

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use super::*;
    use crate::telemetry::{ONE_SUBSCRIBER, Span, TraceContext};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while something happens.
    fn logged(format: LogFormat, happens: impl FnOnce()) -> String {
        let _alone = ONE_SUBSCRIBER.lock().unwrap_or_else(PoisonError::into_inner);
        let page = Page::default();
        let writer = page.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).event_format(Line(format)).with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), happens);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[test]
    fn a_line_of_json_has_the_fields_and_the_trace_whether_it_is_recorded_or_not() {
        let span = Span::timer(TraceContext::parse(PARENT, None).as_ref(), "test");
        let page = logged(LogFormat::Json, || span.within(|| tracing::warn!(tries = 3, name = "a \"b\"\n", "lost")));
        let line: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(page.lines().count(), 1);
        for (field, expected) in [
            ("level", Value::from("WARN")),
            ("message", Value::from("lost")),
            ("tries", Value::from(3)),
            ("name", Value::from("a \"b\"\n")),
            ("trace_id", Value::from("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("span_id", Value::from(hex(&span.context().span_id()))),
        ] {
            assert_eq!(line[field], expected, "{field}");
        }
    }

    #[test]
    fn a_line_of_text_names_its_trace_and_one_outside_of_spans_none() {
        let span = Span::timer(TraceContext::parse(PARENT, None).as_ref(), "test");
        let page = logged(LogFormat::Text, || {
            span.within(|| tracing::info!(tries = 3, "inside"));
            tracing::info!("outside");
        });
        let lines: Vec<_> = page.lines().collect();
        assert!(lines[0].ends_with("inside tries=3 trace_id=4bf92f3577b34da6a3ce929d0e0e4736"), "{page}");
        assert!(lines[1].ends_with(" INFO shared::telemetry::log::tests: outside"), "{page}");
    }
}
