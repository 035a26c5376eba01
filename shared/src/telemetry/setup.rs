//! Turning it on, once a process, and flushing it at the end.

use std::{
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{
    Dispatch, Level, Metadata, Subscriber,
    dispatcher::{self, SetGlobalDefaultError},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, ParseError, filter_fn},
    layer::SubscriberExt as _,
};
use uuid::Uuid;

#[cfg(feature = "jaeger-agent")]
use super::jaeger_agent;
use super::{export::Outlet, log::Line, sampling, span};
use crate::config::{ExportTo, LogFormat, TelemetryConfig};

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// Why logs and traces couldn't be turned on.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Somebody has done so before, in this process.
    #[error("logging is on already: {0}")]
    Twice(#[from] SetGlobalDefaultError),
    /// The exporter's settings contradict each other.
    #[error("spans can't be exported: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The agent can't be sent anything.
    #[cfg(feature = "jaeger-agent")]
    #[error(transparent)]
    Agent(#[from] jaeger_agent::AgentError),
    /// The filter isn't one.
    #[error("RUST_LOG can't be read: {0}")]
    Filter(#[from] ParseError),
}

/// Logs and traces, while a process runs.
#[derive(Debug)]
#[must_use = "the last spans leave by `shutdown`"]
pub struct Telemetry {
    exporter: Option<SdkTracerProvider>,
}

/// Turns logs and traces on, for the whole process, under the service's name. Within a runtime if spans are exported.
///
/// Logs go to standard output.
///
/// # Errors
///
/// It was done before, or the settings contradict each other.
pub fn init(service: &'static str, config: &TelemetryConfig) -> Result<Telemetry, SetupError> {
    let exporter = config.export.as_ref().map(|to| exporter(service, to, config.span_queue)).transpose()?;
    dispatcher::set_global_default(subscriber(config, exporter.as_ref())?)?;
    if exporter.is_some() {
        span::export(config.sampler);
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { exporter })
}

/// What takes log lines and spans. A layer that is absent is left out: an `Option` that is `None` would have the registry
/// make every span of every library, for nobody.
fn subscriber(config: &TelemetryConfig, exporter: Option<&SdkTracerProvider>) -> Result<Dispatch, ParseError> {
    let registry = Registry::default();
    Ok(match exporter {
        Some(provider) => registry.with(traces(provider)).with(logs(config)?).into(),
        None => registry.with(logs(config)?).into(),
    })
}

/// A panic is a line like any other: what Rust itself prints is several, which no machine reads.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(panic = panic.payload_as_str(), location, "panicked");
}

impl Telemetry {
    /// Lets the last spans go, for 2 s at most.
    pub async fn shutdown(self) {
        let Some(exporter) = self.exporter else { return };
        // It blocks, while the connection it waits for needs this runtime.
        let flushed = tokio::task::spawn_blocking(move || exporter.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(error)) = flushed {
            tracing::debug!(%error, "exporting ended badly");
        }
    }
}

fn exporter(service: &'static str, to: &ExportTo, queue: usize) -> Result<SdkTracerProvider, SetupError> {
    let instance = KeyValue::new("service.instance.id", Uuid::new_v4().to_string());
    let resource = Resource::builder().with_attribute(instance).with_service_name(service).build();
    let outlet = match to {
        ExportTo::Otlp(url) => {
            let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
            Outlet::new(exporter.with_endpoint(url.as_str()).build()?, queue)
        }
        #[cfg(feature = "jaeger-agent")]
        ExportTo::JaegerAgent { host, port } => {
            Outlet::new(jaeger_agent::AgentExporter::new(service, host, *port, &resource)?, queue)
        }
    };
    let provider = SdkTracerProvider::builder().with_span_processor(outlet).with_resource(resource);
    // What isn't to be kept never comes here.
    Ok(provider.with_sampler(Sampler::AlwaysOn).with_id_generator(sampling::Ids).build())
}

/// Exports this engine's spans, with what was logged in them.
fn traces<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    let ours = |metadata: &Metadata<'_>| match metadata.is_span() {
        true => is_ours(metadata),
        false => *metadata.level() <= Level::INFO,
    };
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        // Parents are given, never guessed from what happens to be entered.
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(filter_fn(ours))
}

fn logs<S>(config: &TelemetryConfig) -> Result<impl Layer<S>, ParseError>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    let terminal = io::stdout().is_terminal();
    let format = config.log_format_on(terminal);
    // The SDK complains of every batch that is lost; `export` tells of that as it should be told. Whoever names the SDK in
    // the filter hears it all the same.
    let asked = EnvFilter::builder().parse(format!("opentelemetry=off,{}", config.log_filter))?;
    // Spans are for the exporter; a line names its trace without them.
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(terminal && format == LogFormat::Text)
        .event_format(Line(format))
        .with_filter(asked.and(filter_fn(|metadata| !is_ours(metadata))));
    Ok(lines)
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == span::TARGET
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::*;
    use crate::{config::SamplerConfig, telemetry::ONE_SUBSCRIBER};

    #[test]
    fn what_nobody_asked_for_is_never_made() {
        let config = TelemetryConfig {
            log_filter: "warn".to_owned(),
            log_format: None,
            export: None,
            sampler: SamplerConfig::DEFAULT,
            span_queue: 1,
        };
        let _alone = ONE_SUBSCRIBER.lock().unwrap_or_else(PoisonError::into_inner);
        for exporter in [None, Some(SdkTracerProvider::builder().build())] {
            dispatcher::with_default(&subscriber(&config, exporter.as_ref()).unwrap(), || {
                assert!(tracing::info_span!(target: "library", "call").is_none(), "traced: {}", exporter.is_some());
                assert!(!tracing::enabled!(target: "library", Level::DEBUG), "traced: {}", exporter.is_some());
                assert!(tracing::enabled!(target: "library", Level::WARN));
                assert_eq!(tracing::info_span!(target: span::TARGET, "ours").is_none(), exporter.is_none());
            });
        }
    }
}
