//! How many charges a second a running sandbox takes: so many callers on connections that are kept, each asking again as soon as it is
//! answered, each with a new key.
//!
//! ```sh
//! SANDBOX_LEDGER=/var/tmp/ledger cargo run --release --package sandbox &
//! cargo run --release --package sandbox --example load -- 127.0.0.1:12112 64 10
//! ```

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next =
        |what: &str| arguments.next().with_context(|| format!("usage: load ADDRESS CALLERS SECONDS; no {what}"));
    let (address, callers, seconds) = (next("ADDRESS")?, next("CALLERS")?.parse()?, next("SECONDS")?.parse()?);
    let end = Instant::now() + Duration::from_secs(seconds);

    let mut calling = JoinSet::new();
    for _ in 0..callers {
        calling.spawn(call_until(end, address.clone()));
    }
    let mut micros = Histogram::<u64>::new(3)?;
    while let Some(called) = calling.join_next().await {
        micros.add(called??)?;
    }
    let millis = |quantile| Duration::from_micros(micros.value_at_quantile(quantile));
    writeln!(
        std::io::stdout(),
        "{callers} callers, {seconds} s: {} charges/s; p50 {:?}, p99 {:?}, max {:?}",
        micros.len() / seconds,
        millis(0.5),
        millis(0.99),
        millis(1.0),
    )?;
    Ok(())
}

/// Written by hand, so that the caller costs little beside what it measures.
async fn call_until(end: Instant, address: String) -> Result<Histogram<u64>> {
    let mut micros = Histogram::new(3)?;
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    while Instant::now() < end {
        let (order, payment) = (Uuid::now_v7(), Uuid::now_v7());
        let form = format!(
            "amount=29900&currency=usd&payment_method=pm_card_visa&confirm=true&metadata[order_id]={order}&\
             metadata[payment_id]={payment}"
        );
        let request = format!(
            "POST /v1/payment_intents HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer sk_test_load\r\n\
             idempotency-key: {payment}\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        // An answer fits into the buffer, and is JSON, so it ends with this.
        let mut read = 0;
        while read == 0 || !buffer[..read].ends_with(b"}") {
            let more = stream.read(&mut buffer[read..]).await?;
            ensure!(more > 0, "the sandbox hung up");
            read += more;
        }
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
        micros.record(u64::try_from(begun.elapsed().as_micros())?)?;
    }
    Ok(micros)
}
