//! Where clients come in: one port for all protocols. In: settings and calls. Out: the listener, with the bounds of what a
//! connection may do.

use serde_json::{Value, json};
use shared::config::LogFormat;

use crate::{
    Config, NAME,
    api::Api,
    bootstrap::{self, duration, extension, socket},
    filters, replies, routes, tracing,
};

/// Streams that a connection may have at once: as many as a service's own.
const MAX_STREAMS: u32 = 256;
/// What a request's headers may weigh, in KiB, and how many there may be: with what is added here, less than a service takes.
const MAX_HEADERS_KB: u32 = 12;
const MAX_HEADERS: u32 = 64;
/// What is held of a connection that doesn't read, or is read from slowly.
const CONNECTION_BUFFER_BYTES: u32 = 128 * 1024;

/// Where the transcoder leaves what a request was before it became gRPC.
const ORIGINAL_METHOD: &str = "x-envoy-original-method";
const ORIGINAL_PATH: &str = "x-envoy-original-path";
/// A request's method, as its client named it.
const METHOD: &str = "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%";

/// An address that no connection comes from. With no range at all Envoy would count this machine's own as ours.
const NOBODY: &str = "255.255.255.255";

pub(crate) fn listener(config: &Config, api: &Api) -> Value {
    json!({
        "name": NAME,
        "address": socket(&config.address.ip().to_string(), config.address.port()),
        // One socket for all threads: with one each, the few connections of gRPC clients could all end up with the same thread.
        "enable_reuse_port": false,
        "socket_options": keepalive(),
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER_BYTES,
        "filter_chains": [{ "filters": [extension(
            "envoy.filters.network.http_connection_manager",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            connections(config, api),
        )] }],
    })
}

/// A connection whose client has gone without a word ends within a minute and a half, and with it the watch that it may hold: of
/// HTTP/1.1, whose connections have no pings of their own. Options of the listening socket, which Linux hands on to each connection.
fn keepalive() -> Value {
    const SOL_SOCKET: u8 = 1;
    const IPPROTO_TCP: u8 = 6;
    const SO_KEEPALIVE: u8 = 9;
    const TCP_KEEPIDLE: u8 = 4;
    const TCP_KEEPINTVL: u8 = 5;
    const TCP_KEEPCNT: u8 = 6;
    let option = |level: u8, name: u8, value: u8| json!({ "level": level, "name": name, "int_value": value });
    json!([
        option(SOL_SOCKET, SO_KEEPALIVE, 1),
        // In seconds, as the next is.
        option(IPPROTO_TCP, TCP_KEEPIDLE, 60),
        option(IPPROTO_TCP, TCP_KEEPINTVL, 10),
        option(IPPROTO_TCP, TCP_KEEPCNT, 3),
    ])
}

fn connections(config: &Config, api: &Api) -> Value {
    let mut connections = json!({
        "stat_prefix": NAME,
        "codec_type": "AUTO",
        "route_config": routes::routes(config, api),
        "http_filters": filters::filters(config, api),
        "local_reply_config": replies::replies(api),
        "access_log": access_log(config),

        // Nobody outside is one of us, on this machine or not: what steers Envoy in x-envoy-… headers is taken off, and a
        // client's address is its connection's.
        "use_remote_address": true,
        "xff_num_trusted_hops": config.trusted_hops,
        "internal_address_config": { "cidr_ranges": [{ "address_prefix": NOBODY, "prefix_len": 32 }] },
        "early_header_mutation_extensions": [own_words()],
        "server_header_transformation": "PASS_THROUGH",

        // What paths mean is clear before anybody matches them.
        "normalize_path": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",

        "max_request_headers_kb": MAX_HEADERS_KB,
        "common_http_protocol_options": {
            "max_headers_count": MAX_HEADERS,
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "300s",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": MAX_STREAMS,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 1024 * 1024,
            // A watch whose client has gone without a word ends with its connection.
            "connection_keepalive": { "interval": "30s", "timeout": "10s" },
        },
        "request_headers_timeout": duration(config.arrival),
        "request_timeout": duration(config.arrival),
        "stream_idle_timeout": duration(config.idle),
        "delayed_close_timeout": "1s",
        // A bad request ends its stream, not its neighbours on the connection.
        "stream_error_on_invalid_http_message": true,
    });
    if let Some(tracing) = tracing::tracing(config) {
        connections["tracing"] = tracing;
    }
    connections
}

/// Takes off what our own filters say of a request, where its client says it.
fn own_words() -> Value {
    extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        json!({ "mutations": [{ "remove": ORIGINAL_METHOD }, { "remove": ORIGINAL_PATH }] }),
    )
}

/// One line a request, on standard output. No query, no header of the client's: neither names nor tokens get into it.
///
/// These lines are at level info; of a request that failed and may have done so on our side, at level warn. Envoy's levels are
/// for its own lines alone, so whoever filters is heeded here.
fn access_log(config: &Config) -> Vec<Value> {
    let only_failed = match config.log_level() {
        "off" | "error" => return Vec::new(),
        level => level == "warning",
    };
    [Protocol::Json, Protocol::Other]
        .map(|protocol| {
            let mut log = extension(
                "envoy.access_loggers.stdout",
                "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                json!({ "log_format": protocol.line(config.log_format()) }),
            );
            log["filter"] = if only_failed {
                json!({ "and_filter": { "filters": [protocol.filter(), protocol.failed()] } })
            } else {
                protocol.filter()
            };
            log
        })
        .into()
}

/// What a call was when it came, as far as that matters to who tells of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// JSON that became a call of gRPC. The status of HTTP says how it went, but for what comes in many parts, such as a watch: how
    /// that ended is said behind them. From a status of HTTP Envoy would derive one of gRPC, `INTERNAL` from what `INVALID_ARGUMENT`
    /// was translated to.
    Json,
    /// gRPC, or gRPC-Web; or what got no further than here.
    Other,
}

impl Protocol {
    fn filter(self) -> Value {
        // Of the transcoder.
        let header = json!({ "name": ORIGINAL_PATH, "present_match": true, "invert_match": self == Self::Other });
        json!({ "header_filter": { "header": header } })
    }

    /// What nobody outside is certain to be to blame for.
    fn failed(self) -> Value {
        // Where there is a status of gRPC, and not one that Envoy would derive.
        let (told, unclear) = match self {
            Self::Json => (bootstrap::status("EQ", 200), None),
            Self::Other => {
                let grpc = json!({ "name": "content-type", "string_match": { "prefix": "application/grpc" } });
                (json!({ "header_filter": { "header": grpc } }), Some("UNKNOWN"))
            }
        };
        let ours = ["DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
        let statuses: Vec<_> = ours.into_iter().chain(unclear).collect();
        let grpc = json!({ "and_filter": { "filters": [told, { "grpc_status_filter": { "statuses": statuses } }] } });
        json!({ "or_filter": { "filters": [bootstrap::status("GE", 500), grpc] } })
    }

    fn grpc_status(self) -> &'static str {
        match self {
            Self::Json => "%TRAILER(GRPC-STATUS)%",
            Self::Other => "%GRPC_STATUS_NUMBER%",
        }
    }

    fn line(self, format: LogFormat) -> Value {
        let grpc_status = self.grpc_status();
        match format {
            LogFormat::Text => {
                let line = format!(
                    "%START_TIME% {METHOD} %PATH(NQ:ORIG_OR_PATH)% %RESPONSE_CODE% grpc={grpc_status} %DURATION%ms \
                     %UPSTREAM_CLUSTER% flags=%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% trace=%TRACE_ID%\n"
                );
                json!({ "text_format_source": { "inline_string": line } })
            }
            LogFormat::Json => {
                json!({ "json_format": {
                    "timestamp": "%START_TIME%",
                    "method": METHOD,
                    "path": "%PATH(NQ:ORIG_OR_PATH)%",
                    "protocol": "%PROTOCOL%",
                    "status": "%RESPONSE_CODE%",
                    "grpc_status": grpc_status,
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "flags": "%RESPONSE_FLAGS%",
                    "milliseconds": "%DURATION%",
                    "received": "%BYTES_RECEIVED%",
                    "sent": "%BYTES_SENT%",
                    "service": "%UPSTREAM_CLUSTER%",
                    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
                    "trace": "%TRACE_ID%",
                } })
            }
        }
    }
}
