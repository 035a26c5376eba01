//! What has happened, on disk: intents, refunds, every movement of money, and the answers kept by idempotency key.
//!
//! In: judged requests. Out: answers, each given only once its effects are on disk. [`Ledger`] is the door: it reads from
//! snapshots and hands instructions to the one [`Writer`], which commits whatever is waiting as one transaction. Nothing
//! here knows HTTP or the fault switches.

mod books;
mod error;
mod in_flight;
mod instruction;
mod reader;
mod records;
mod tables;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

pub use error::LedgerError;
pub use instruction::{Answer, Idempotency, Instruction, Request};
pub use records::{Intent, IntentStatus, Movement, MovementKind, Refund, Totals};
pub use writer::Writer;

use crate::stripe::Problem;
use in_flight::InFlight;
use instruction::Submitted;

/// Instructions that may wait for the writer; more are refused.
const QUEUE: usize = 4096;
/// What of the file is held in memory.
const CACHE_BYTES: usize = 128 << 20;

/// The door to the ledger. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Ledger {
    database: Arc<Database>,
    instructions: mpsc::Sender<Submitted>,
    in_flight: InFlight,
}

impl Ledger {
    /// Opens the ledger in this file, or makes it; `slow` is how long a slow charge takes. The writer has to be run.
    ///
    /// # Errors
    ///
    /// It can't be opened, or another process has it open.
    pub fn open(path: &Path, slow: Duration) -> Result<(Self, Writer), LedgerError> {
        let database = Arc::new(Database::builder().set_cache_size(CACHE_BYTES).create(path)?);
        let (instructions, queue) = mpsc::channel(QUEUE);
        let writer = Writer::open(database.clone(), queue, slow)?;
        Ok((Self { database, instructions, in_flight: InFlight::default() }, writer))
    }

    /// Has an instruction done, once: its answer, new or kept by its key.
    ///
    /// Whether or not this is awaited to its end, an instruction that was taken is done.
    ///
    /// # Errors
    ///
    /// The writer has ended, and whether the instruction was done shows at the next start; or the ledger can't be read.
    pub async fn execute(&self, instruction: Instruction) -> Result<Answer, LedgerError> {
        let held = match &instruction.idempotency {
            None => None,
            Some(idempotency) => match self.in_flight.hold(&idempotency.key) {
                Some(held) => Some(held),
                // Another has the key just now: its first request, or only a repetition of one that is long done.
                None => {
                    let kept = self.kept(idempotency.clone()).await?;
                    return Ok(kept.unwrap_or_else(|| Answer::problem(&Problem::key_in_use(&idempotency.key))));
                }
            },
        };
        let (answer, answered) = oneshot::channel();
        match self.instructions.try_send(Submitted { instruction, held, answer }) {
            Ok(()) => answered.await.map_err(|_| LedgerError::WriterGone),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(Answer::problem(&Problem::unavailable())),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(LedgerError::WriterGone),
        }
    }

    /// Whether instructions are still done.
    pub fn is_open(&self) -> bool {
        !self.instructions.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::stripe::{ChargeRequest, Form};

    fn charge() -> Instruction {
        let form = Form::parse(b"amount=50&currency=usd&payment_method=pm_card_visa&confirm=true");
        let request = Request::Charge(ChargeRequest::parse(&form).unwrap());
        Instruction { request, idempotency: None, answer_500: false }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_what_it_had_taken_is_done_although_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, writer) = Ledger::open(&folder.path().join("ledger"), Duration::from_secs(1)).unwrap();
        for _ in 0..QUEUE {
            // Taken, and then its caller goes away.
            assert!(ledger.execute(charge()).now_or_never().is_none());
        }
        let refused = ledger.execute(charge()).await.unwrap();
        assert_eq!((refused.status, refused.replayed), (503, false));

        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await.unwrap();
        let totals = ledger.totals().await.unwrap();
        assert_eq!(totals, [("usd".to_owned(), Totals { charges: 4096, charged: 50 * 4096, ..Totals::default() })]);
        assert!(ledger.execute(charge()).await.is_err(), "nobody writes any more");
    }
}
