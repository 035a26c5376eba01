//! Keeps a stack running. In: a stack that has been started. Out: nothing while it runs; a process that dies is started again, and the
//! terminal told. It never stops anything.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::process::Process;
use crate::progress::say;
use crate::stack::Stack;

/// The pause before the first restart; each one doubles it.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// A process that ran this long had recovered: the next restart is a first one again.
const HEALTHY: Duration = Duration::from_secs(30);

/// Watches all processes of the stack, until this future is dropped.
pub(crate) async fn supervise(stack: &Stack) {
    join_all(stack.processes().map(keep_running)).await;
}

async fn keep_running(process: &Process) {
    let name = process.name();
    let mut pause = SHORTEST;
    loop {
        let begun = Instant::now();
        let end = process.ended().await.map(|status| status.to_string()).unwrap_or_default();
        if begun.elapsed() > HEALTHY {
            pause = SHORTEST;
        }
        say(format_args!(
            "{name} ended ({end}); restarting it in {} ms; its log: {}",
            pause.as_millis(),
            process.log().display()
        ));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
        match process.start().await {
            Ok(()) => say(format_args!("{name} is ready again")),
            Err(error) => say(format_args!("{error:#}")),
        }
    }
}
