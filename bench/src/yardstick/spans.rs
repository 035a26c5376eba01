//! Spans by themselves: made as the services make them, by a process that does nothing else, for a receiver that counts and drops.
//! In: how many. Out: milliseconds of CPU each, of both sides.

use std::env;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use local::process;
use shared::{
    config::{ExportTo, SamplerConfig, TelemetryConfig},
    telemetry::{self, Record, Span},
};
use tokio::process::Command;

use super::parts::each;
use crate::measure::otlp::Receiver;

/// Those of a saga: of its two calls, and of its charge; where each of its seven events is made, and where each is read, three of
/// them by three services. What is one for a whole batch is left out.
pub(crate) const OF_A_SAGA: usize = 23;

/// The process that makes them.
#[derive(Args)]
pub(crate) struct Spans {
    /// The receiver, `http://host:port`.
    #[arg(long)]
    to: String,
    /// Of so many sagas.
    #[arg(long)]
    sagas: usize,
}

/// Has those of whole sagas made, so many at least.
pub(super) async fn take(times: usize) -> Result<f64> {
    let sagas = times.div_ceil(OF_A_SAGA);
    let spans = sagas * OF_A_SAGA;
    let receiver = Receiver::start().await?;
    let before = process::own_cpu_time();
    let made = Command::new(env::current_exe()?)
        .args(["spans", "--to", &receiver.url(), "--sagas", &sagas.to_string()])
        .status()
        .await?;
    // That of the process that has ended is in it.
    let after = process::own_cpu_time();
    ensure!(made.success(), "the process that makes spans ended with {made}");
    ensure!(receiver.received() == spans as u64, "{} of {spans} spans arrived", receiver.received());
    Ok(each(before, after, spans))
}

impl Spans {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// That is no address.
    pub(crate) async fn make(self) -> Result<()> {
        let config = TelemetryConfig {
            log_filter: "warn".to_owned(),
            log_format: None,
            export: Some(ExportTo::Otlp(self.to.parse().context("the receiver")?)),
            sampler: SamplerConfig::DEFAULT,
            // Room for all: they are made faster than any service does.
            span_queue: self.sagas * OF_A_SAGA,
        };
        let telemetry = telemetry::init("bench", &config)?;
        for saga in 0..self.sagas {
            of_a_saga(i64::try_from(saga)?);
        }
        telemetry.shutdown().await;
        Ok(())
    }
}

fn of_a_saga(offset: i64) {
    const KEY: &str = "019ab2f0-0000-7000-8000-000000000000";
    let call = Span::server(None, "/ticketing.orders.v1.OrderService/CreateOrder");
    drop(Span::server(Some(call.context()), "/ticketing.payments.v1.PaymentService/CreatePayment"));
    drop(Span::client(call.context(), "POST"));
    let events =
        [("orders", "order.created", 3), ("orders", "order.awaiting_payment", 3), ("orders", "order.completed", 3)];
    let others = [("tickets", "ticket.updated", 1), ("payments", "payment.created", 1)];
    for (topic, kind, readers) in events.into_iter().chain(others).chain(others) {
        let made = Span::create(call.context(), topic, kind, KEY);
        for group in ["tickets-orders", "payments-orders", "expiration-orders"].into_iter().take(readers) {
            drop(Span::process(made.context(), Record { topic, group, partition: 0, offset, key: KEY }));
        }
    }
}
