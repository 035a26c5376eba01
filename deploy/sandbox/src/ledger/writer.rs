//! The one task that writes. While a transaction is committed, and for the rest of its pace, the next instructions gather;
//! then they are the next transaction.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redb::Database;
use shared::{
    clock::{self, Timestamp},
    pace::Pace,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, LedgerError,
    books::{Books, Outcome, Written},
    instruction::Submitted,
};

/// Instructions in one transaction.
const BATCH: usize = 1024;
/// The least time from one transaction's beginning to the next one's, unless it is full: each writes and syncs whole pages,
/// for one instruction as for many, and a provider that takes some ten milliseconds is a fast one. An instruction after a
/// pause waits for nothing.
const PACE: Duration = Duration::from_millis(20);

/// The ledger's writer, to be run.
#[must_use = "nothing is written unless it runs"]
pub struct Writer {
    books: Books,
    queue: mpsc::Receiver<Submitted>,
    next_due: Option<Timestamp>,
    /// Who waits for a slow intent, by its id. After a restart nobody does.
    waiting: HashMap<String, oneshot::Sender<Answer>>,
}

impl Writer {
    pub(super) fn open(
        database: Arc<Database>,
        queue: mpsc::Receiver<Submitted>,
        slow: Duration,
    ) -> Result<Self, LedgerError> {
        let (books, next_due) = Books::open(database, slow)?;
        Ok(Self { books, queue, next_due, waiting: HashMap::new() })
    }

    /// Writes until it is told to stop, and then what is still in the queue.
    ///
    /// # Errors
    ///
    /// The ledger can't be written: then none of the transaction's callers is answered, and none after them.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        let mut pace = Pace::new(PACE);
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                taken = self.queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                () = reached(self.next_due) => {}
            }
            pace.begin(batch.len() == BATCH).await;
            while batch.len() < BATCH
                && let Ok(instruction) = self.queue.try_recv()
            {
                batch.push(instruction);
            }
            self = self.write(batch).await?;
        }
    }

    async fn write(mut self, batch: Vec<Submitted>) -> Result<Self, LedgerError> {
        let (instructions, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Submitted { instruction, held, answer }| (instruction, (held, answer))).unzip();
        let mut books = self.books;
        let blocking = tokio::task::spawn_blocking(move || {
            let written = books.write(&instructions, clock::now());
            (books, written)
        });
        let (books, written) = blocking.await?;
        let Written { outcomes, settled, next_due } = written?;
        // All of it is on disk now. A caller that hung up isn't there to be told.
        for ((held, caller), outcome) in callers.into_iter().zip(outcomes) {
            drop(held);
            match outcome {
                Outcome::Answered(answer) => drop(caller.send(answer)),
                Outcome::Later(intent) => drop(self.waiting.insert(intent, caller)),
            }
        }
        for (intent, answer) in settled {
            if let Some(caller) = self.waiting.remove(&intent) {
                let _ = caller.send(answer);
            }
        }
        Ok(Self { books, next_due, ..self })
    }
}

/// Waits for this time of the machine's clock; for none, forever.
async fn reached(time: Option<Timestamp>) {
    match time {
        Some(time) => tokio::time::sleep((time - clock::now()).to_std().unwrap_or(Duration::ZERO)).await,
        None => std::future::pending().await,
    }
}
