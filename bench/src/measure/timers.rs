//! Timers: all due at once, and a thousand a second.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contracts::expiration::v1::ExpirationEvent;
use hdrhistogram::Histogram;
use local::session::Session;
use prost::Message as _;
use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer},
};

use super::{
    Taken,
    backlogs::{TRACEPARENT, rate_on},
};
use crate::{
    load,
    rig::{Rig, System, Variant, terminate},
    table::Quantity as Q,
    topics,
};

/// Timers a second where lateness is watched: one a millisecond.
const A_SECOND: i32 = 1000;
const LIMIT: Duration = Duration::from_secs(120);

/// Both, one after the other.
pub(super) async fn both(rig: &Rig) -> Result<Taken> {
    // orders has made the topic that expiration listens to.
    let variant = Variant { services: vec!["orders", "expiration"], ..Variant::default() };
    let system = rig.system(&variant).await?;
    let [orders, expiration] = ["orders", "expiration"].map(|name| system.stack.service(name));
    let (orders, expiration) = (orders?.process(), expiration?.process());
    terminate([orders, expiration]).await?;
    let topic = system.topic("expiration");

    let due = "now() - interval '1 hour'";
    fill(&system, due, i32::try_from(rig.scale.due)?).await?;
    expiration.start().await?;
    let fired = rate_on(rig, &topic, 0, rig.scale.due).await?;
    terminate([expiration]).await?;

    let by_the_second = A_SECOND * i32::try_from(rig.scale.watch_for.as_secs())?;
    // The service is up by the time the first is due.
    fill(&system, "now() + interval '3 s' + interval '1 ms' * n", by_the_second).await?;
    expiration.start().await?;
    let late = lateness(rig, &topic, i64::try_from(rig.scale.due)?, i64::from(by_the_second)).await?;
    terminate([expiration]).await?;
    system.abandon().await?;
    let ms = |quantile| late.value_at_quantile(quantile) as f64;
    Ok(Taken::default().figure(Q::TimersFired, fired).figure(Q::TimersLate, ms(0.99)).tell(format_args!(
        "at {A_SECOND}/s {:.0} ms late at p50, {:.0} ms at p99",
        ms(0.5),
        ms(0.99)
    )))
}

async fn fill(system: &System<'_>, due: &str, timers: i32) -> Result<()> {
    let session = Session::connect(&system.database_url("expiration")?).await?;
    let fill = format!(
        "INSERT INTO expirations (order_id, expires_at, status, traceparent) \
         SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15)::uuid, {due}, 1, '{TRACEPARENT}' \
         FROM generate_series(1, {timers}) n"
    );
    session.batch_execute(&fill).await?;
    session.batch_execute("ANALYZE expirations; CHECKPOINT").await?;
    Ok(())
}

/// How late each of so many more timers is told of on the topic, in ms, by the broker's clock.
#[allow(clippy::disallowed_methods, reason = "a broker tells how much there is only when it is asked")]
async fn lateness(rig: &Rig, topic: &str, held: i64, more: i64) -> Result<Histogram<u64>> {
    let (config, topic) = (topics::reader(&rig.brokers()), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        let begun = Instant::now();
        // Read when all are there, so that reading disturbs nothing.
        while topics::held(&client, &topic)? < held + more {
            ensure!(begun.elapsed() < LIMIT, "not all of {more} timers have fired after {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        client.assign(&topics::from(&client, &topic, true)?)?;
        let mut late = load::histogram()?;
        let mut read = 0;
        while read < held + more {
            let message = client.poll(LIMIT).context("nothing within the limit")??;
            read += 1;
            let event = ExpirationEvent::decode(message.payload().unwrap_or_default())?;
            let due = event.expiration.and_then(|timer| timer.expire_time).context("no time")?;
            let due = due.seconds * 1000 + i64::from(due.nanos) / 1_000_000;
            let told = message.timestamp().to_millis().context("no timestamp")?;
            // Those of before were an hour late.
            if let Ok(ms) = u64::try_from(told - due)
                && ms < 1_800_000
            {
                late.saturating_record(ms.max(1));
            }
        }
        ensure!(late.len() == u64::try_from(more)?, "{} of {more} timers were told of in time", late.len());
        Ok(late)
    })
    .await?
}
