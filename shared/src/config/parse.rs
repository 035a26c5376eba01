//! Parsers of settings' texts. Each answers what the value should be when it isn't.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use reqwest::Url;
use tracing_subscriber::EnvFilter;

use super::{JwksSource, LogFormat, Secret, TracingExporter};
use crate::db::Database;

/// Any text.
///
/// # Errors
///
/// None; it has the form of its neighbours.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Nothing, if the text is empty; else what `parse` makes of it.
pub fn unless_empty<T>(
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> impl FnOnce(&str) -> Result<Option<T>, String> {
    move |text| match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

/// How OTLP is spoken.
///
/// # Errors
///
/// In any other way than over gRPC.
pub fn otlp_protocol(text: &str) -> Result<(), String> {
    if matches!(text, "" | "grpc") { Ok(()) } else { Err("must be grpc".to_owned()) }
}

/// A share, 0 to 1.
///
/// # Errors
///
/// Anything else.
pub fn ratio(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| "must be from 0.0 to 1.0".to_owned())
}

/// `true` or `false`.
///
/// # Errors
///
/// Anything else.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

/// A whole number within bounds.
///
/// # Errors
///
/// Anything else.
pub fn number<T: FromStr + PartialOrd + Display>(bounds: RangeInclusive<T>) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// What no time that is set may exceed, so that none reaches beyond what a calendar has: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A time that passes, as humantime writes it (`90s`, `2m`, `1h 30m`), longer than none and a year at most.
///
/// # Errors
///
/// Anything else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_none(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "must be a time longer than 0, like 500ms, 30s or 2m, and a year at most".to_owned())
}

/// Like [`duration`], and no longer than this.
///
/// # Errors
///
/// Anything else.
pub fn duration_up_to(longest: Duration) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |text| {
        let duration = duration(text).ok().filter(|duration| *duration <= longest);
        duration
            .ok_or_else(|| format!("must be a time longer than 0, and at most {}", humantime::format_duration(longest)))
    }
}

/// Like [`duration`], or none at all (`0s`).
///
/// # Errors
///
/// Anything else.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| "must be a time, like 0s, 500ms or 2m, and a year at most".to_owned())
}

/// An IP address and a port, where 0 means any free one.
///
/// # Errors
///
/// Anything else: host names too, since a server listens on addresses.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address and a port, like 127.0.0.1:50051 or [::]:50051".to_owned())
}

/// Brokers: `host:port`, comma-separated, at least one.
///
/// # Errors
///
/// Anything else.
pub fn brokers(text: &str) -> Result<String, String> {
    let is_broker = |broker: &str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    if text.split(',').all(is_broker) {
        Ok(text.to_owned())
    } else {
        Err("must be host:port, comma-separated".to_owned())
    }
}

/// What topics' names may begin with: nothing, or up to 100 letters, digits, dots, hyphens and underscores of ASCII.
///
/// # Errors
///
/// Anything else.
pub fn topic_prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.len() <= 100 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be at most 100 letters, digits, dots, hyphens and underscores".to_owned())
    }
}

/// Where a database is.
///
/// # Errors
///
/// No Postgres URL, or one that asks for what isn't supported. The value is not shown.
pub fn database_url(text: &str) -> Result<Secret, String> {
    match Database::new(text, "settings") {
        Ok(_) => Ok(Secret::new(text)),
        Err(invalid) => Err(invalid.to_string()),
    }
}

/// An `http` or `https` URL.
///
/// # Errors
///
/// Anything else.
pub fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "must be a URL that begins with http:// or https://".to_owned())
}

/// An `http` URL.
///
/// # Errors
///
/// Anything else: TLS is not spoken there.
pub fn plaintext_url(text: &str) -> Result<Url, String> {
    let url = http_url(text).ok().filter(|url| url.scheme() == "http");
    url.ok_or_else(|| "must be a URL that begins with http://, for this program speaks no TLS there".to_owned())
}

/// Where a JSON Web Key Set is: an `http` or `https` URL, or else a file's path.
///
/// # Errors
///
/// A URL that is malformed or of another scheme.
pub fn jwks(text: &str) -> Result<JwksSource, String> {
    if text.contains("://") {
        let url = http_url(text).map_err(|_| "must be a file's path or an http(s) URL".to_owned());
        url.map(JwksSource::Url)
    } else {
        Ok(JwksSource::File(PathBuf::from(text)))
    }
}

/// What is logged, as `tracing_subscriber`'s `EnvFilter` writes it.
///
/// # Errors
///
/// Anything else.
pub fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a level, or target=level, comma-separated, like info,shared=debug".to_owned()),
    }
}

/// `text` or `json`.
///
/// # Errors
///
/// Anything else.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// `otlp`, or `jaeger-agent` where the cargo feature of that name is built in.
///
/// # Errors
///
/// Anything else.
pub fn tracing_exporter(text: &str) -> Result<TracingExporter, String> {
    match text {
        "otlp" => Ok(TracingExporter::Otlp),
        #[cfg(feature = "jaeger-agent")]
        "jaeger-agent" => Ok(TracingExporter::JaegerAgent),
        #[cfg(not(feature = "jaeger-agent"))]
        "jaeger-agent" => {
            Err("must be otlp, for this program was built without its cargo feature \"jaeger-agent\"".to_owned())
        }
        _ => Err("must be otlp or jaeger-agent".to_owned()),
    }
}
