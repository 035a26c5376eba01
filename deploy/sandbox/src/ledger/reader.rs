//! Reading, from snapshots: each sees whole transactions, holds up nobody, and waits for nobody.

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use super::{
    Answer, Idempotency, Intent, Ledger, LedgerError, Movement, Refund, Totals,
    records::{KeptAnswer, KeyRecord},
    tables,
};
use crate::stripe::{Problem, Term};

impl Ledger {
    /// An intent.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn intent(&self, id: String) -> Result<Option<Intent>, LedgerError> {
        self.read(move |snapshot| tables::get(&snapshot.open_table(tables::INTENTS)?, &id)).await
    }

    /// A refund.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn refund(&self, id: String) -> Result<Option<Refund>, LedgerError> {
        self.read(move |snapshot| tables::get(&snapshot.open_table(tables::REFUNDS)?, &id)).await
    }

    /// The refunds of an intent, newest first.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn refunds_of(&self, intent: String) -> Result<Vec<Refund>, LedgerError> {
        self.read(move |snapshot| {
            let refunds = snapshot.open_table(tables::REFUNDS)?;
            let ids = tables::second_parts(&snapshot.open_table(tables::REFUNDS_BY_INTENT)?, &intent)?;
            ids.iter().rev().filter_map(|id| tables::get(&refunds, id).transpose()).collect()
        })
        .await
    }

    /// The intents that all terms hold of, newest first, at most `limit`, and whether there are more. Of those that the first
    /// term holds of, a thousand are looked at.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn search(&self, terms: Vec<Term>, limit: usize) -> Result<(Vec<Intent>, bool), LedgerError> {
        const LOOKED_AT: usize = 1000;
        self.read(move |snapshot| {
            let Some(first) = terms.first() else { return Ok((Vec::new(), false)) };
            let intents = snapshot.open_table(tables::INTENTS)?;
            let by_metadata = snapshot.open_table(tables::INTENTS_BY_METADATA)?;
            let ids = tables::third_parts(&by_metadata, &first.name, &first.value, LOOKED_AT)?;
            let mut found = Vec::new();
            for id in ids.iter().rev() {
                let Some(intent) = tables::get::<Intent>(&intents, id)? else { continue };
                if terms.iter().all(|term| intent.metadata.get(&term.name) == Some(&term.value)) {
                    found.push(intent);
                }
            }
            let more = found.len() > limit;
            found.truncate(limit);
            Ok((found, more))
        })
        .await
    }

    /// Movements after this number, in order, at most `limit`; of one order, if it is named.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn movements(
        &self,
        after: u64,
        limit: usize,
        order_id: Option<String>,
    ) -> Result<Vec<Movement>, LedgerError> {
        self.read(move |snapshot| {
            let movements = snapshot.open_table(tables::MOVEMENTS)?;
            let first = after.saturating_add(1);
            let mut found = Vec::new();
            let Some(order_id) = order_id else {
                for entry in movements.range(first..)?.take(limit) {
                    found.push(serde_json::from_slice(entry?.1.value())?);
                }
                return Ok(found);
            };
            let of_order = snapshot.open_table(tables::MOVEMENTS_BY_ORDER)?;
            for entry in of_order.range((order_id.as_str(), first)..=(order_id.as_str(), u64::MAX))?.take(limit) {
                let (_, seq) = entry?.0.value();
                if let Some(movement) = movements.get(seq)? {
                    found.push(serde_json::from_slice(movement.value())?);
                }
            }
            Ok(found)
        })
        .await
    }

    /// The number of the last movement; 0 if there is none.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn last_movement(&self) -> Result<u64, LedgerError> {
        self.read(|snapshot| {
            let movements = snapshot.open_table(tables::MOVEMENTS)?;
            Ok(movements.last()?.map_or(0, |(seq, _)| seq.value()))
        })
        .await
    }

    /// The sums of every currency that was ever used, by its code in lower case.
    ///
    /// # Errors
    ///
    /// The ledger can't be read.
    pub async fn totals(&self) -> Result<Vec<(String, Totals)>, LedgerError> {
        self.read(|snapshot| {
            let mut totals = Vec::new();
            for entry in snapshot.open_table(tables::TOTALS)?.iter()? {
                let (currency, record) = entry?;
                totals.push((currency.value().to_owned(), serde_json::from_slice(record.value())?));
            }
            Ok(totals)
        })
        .await
    }

    /// What this key is answered, if its first request is done.
    pub(super) async fn kept(&self, idempotency: Idempotency) -> Result<Option<Answer>, LedgerError> {
        self.read(move |snapshot| {
            let keys = snapshot.open_table(tables::KEYS)?;
            let known = tables::get::<KeyRecord>(&keys, &idempotency.key)?;
            Ok(known.map(|known| known.answer_to(&idempotency)))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let database = self.database.clone();
        tokio::task::spawn_blocking(move || read(&database.begin_read()?)).await?
    }
}

impl KeyRecord {
    /// What a repetition is answered.
    pub(super) fn answer_to(self, idempotency: &Idempotency) -> Answer {
        if self.fingerprint != idempotency.fingerprint {
            return Answer::problem(&Problem::key_reused(&idempotency.key));
        }
        match self.answer {
            Some(KeptAnswer { status, body }) => Answer { status, body: body.into(), replayed: true },
            None => Answer::problem(&Problem::key_in_use(&idempotency.key)),
        }
    }
}

impl From<&Answer> for KeptAnswer {
    fn from(answer: &Answer) -> Self {
        // Written by us, from JSON.
        Self { status: answer.status, body: String::from_utf8_lossy(&answer.body).into_owned() }
    }
}
