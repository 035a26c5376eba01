//! The HTTP server of `OPS_ADDR`.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::grpc::Health;

/// What Prometheus calls the format that [`Metrics::encode`] writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/livez`, `/readyz` and `/metrics` until it is told to stop.
///
/// `/livez` answers 200 as long as the process can answer at all; `/readyz` 200 when it is SERVING, else 503 with a
/// reason a line.
///
/// # Errors
///
/// The listener failed for good.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(exposition).with_state(metrics));
    // Dropping the server closes its connections: a scrape cut short is scraped again, a shutdown must not wait for one.
    let server = axum::serve(listener, router);
    stop.run_until_cancelled(server.into_future()).await.unwrap_or(Ok(()))
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let readiness = health.readiness();
    if readiness.is_serving() {
        (StatusCode::OK, "serving\n".to_owned())
    } else {
        let reasons: String = readiness.reasons.iter().map(|reason| format!("{reason}\n")).collect();
        (StatusCode::SERVICE_UNAVAILABLE, reasons)
    }
}

async fn exposition(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.encode())
}
