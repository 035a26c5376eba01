//! The transactions. In: instructions, and the time. Out: what each is answered, valid only once the transaction is
//! committed.

use std::{sync::Arc, time::Duration};

use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use shared::clock::Timestamp;
use uuid::Uuid;

use super::{
    Answer, Instruction, Intent, IntentStatus, LedgerError, Movement, MovementKind, Refund, Request, Totals,
    records::{KeptAnswer, KeyRecord, Slow},
    tables,
};
use crate::stripe::{self, ChargeRequest, Problem, RefundRequest, method::Verdict};

/// The ledger's file, to be written by one.
pub(super) struct Books {
    database: Arc<Database>,
    slow: Duration,
    last_seq: u64,
}

/// What has come of an instruction.
pub(super) enum Outcome {
    /// This is its answer.
    Answered(Answer),
    /// It will be answered when this slow intent is due.
    Later(String),
}

/// A transaction that is on disk.
pub(super) struct Written {
    /// What has come of the instructions, in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// The slow intents that were due, with their answers.
    pub(super) settled: Vec<(String, Answer)>,
    /// When the next slow intent is due.
    pub(super) next_due: Option<Timestamp>,
}

impl Books {
    /// Opens the tables; `slow` is how long a slow charge takes.
    pub(super) fn open(database: Arc<Database>, slow: Duration) -> Result<(Self, Option<Timestamp>), LedgerError> {
        let transaction = database.begin_write()?;
        let (last_seq, next_due) = {
            let page = Page::open(&transaction, 0, Timestamp::UNIX_EPOCH)?;
            let last = page.movements.last()?.map_or(0, |(seq, _)| seq.value());
            (last, page.next_due()?)
        };
        transaction.commit()?;
        Ok((Self { database, slow, last_seq }, next_due))
    }

    /// Does all of this in one transaction, and settles the slow charges that are due.
    pub(super) fn write(&mut self, instructions: &[Instruction], now: Timestamp) -> Result<Written, LedgerError> {
        let transaction = self.database.begin_write()?;
        let (written, seq) = {
            let mut page = Page::open(&transaction, self.last_seq, now)?;
            let settled = page.settle_due()?;
            let outcomes = instructions
                .iter()
                .map(|instruction| page.execute(instruction, self.slow))
                .collect::<Result<_, _>>()?;
            (Written { outcomes, settled, next_due: page.next_due()? }, page.seq)
        };
        transaction.commit()?;
        self.last_seq = seq;
        Ok(written)
    }
}

/// A transaction's tables.
struct Page<'t> {
    movements: Table<'t, u64, &'static [u8]>,
    movements_by_order: Table<'t, (&'static str, u64), ()>,
    intents: Table<'t, &'static str, &'static [u8]>,
    intents_by_metadata: Table<'t, (&'static str, &'static str, &'static str), ()>,
    refunds: Table<'t, &'static str, &'static [u8]>,
    refunds_by_intent: Table<'t, (&'static str, &'static str), ()>,
    keys: Table<'t, &'static str, &'static [u8]>,
    slow: Table<'t, (i64, &'static str), &'static [u8]>,
    totals: Table<'t, &'static str, &'static [u8]>,
    /// Of the last movement.
    seq: u64,
    now: Timestamp,
}

/// What a request comes to, before its key is looked after.
enum Executed {
    /// It had begun: its answer is kept.
    Kept(Answer),
    /// It was refused, and nothing has changed: it may be tried again.
    Refused(Problem),
    /// It goes on for a while; its intent.
    Later(String),
}

impl<'t> Page<'t> {
    fn open(transaction: &'t WriteTransaction, seq: u64, now: Timestamp) -> Result<Self, LedgerError> {
        Ok(Self {
            movements: transaction.open_table(tables::MOVEMENTS)?,
            movements_by_order: transaction.open_table(tables::MOVEMENTS_BY_ORDER)?,
            intents: transaction.open_table(tables::INTENTS)?,
            intents_by_metadata: transaction.open_table(tables::INTENTS_BY_METADATA)?,
            refunds: transaction.open_table(tables::REFUNDS)?,
            refunds_by_intent: transaction.open_table(tables::REFUNDS_BY_INTENT)?,
            keys: transaction.open_table(tables::KEYS)?,
            slow: transaction.open_table(tables::SLOW)?,
            totals: transaction.open_table(tables::TOTALS)?,
            seq,
            now,
        })
    }

    fn execute(&mut self, instruction: &Instruction, slow: Duration) -> Result<Outcome, LedgerError> {
        if let Some(idempotency) = &instruction.idempotency
            && let Some(known) = tables::get::<KeyRecord>(&self.keys, &idempotency.key)?
        {
            return Ok(Outcome::Answered(known.answer_to(idempotency)));
        }
        let executed = match &instruction.request {
            Request::Charge(request) => self.charge(request, instruction, slow)?,
            Request::Refund(request) => self.refund(request, instruction)?,
        };
        let (answer, outcome) = match executed {
            Executed::Refused(problem) => return Ok(Outcome::Answered(Answer::problem(&problem))),
            Executed::Later(intent) => (None, Outcome::Later(intent)),
            Executed::Kept(answer) => {
                let answer = if instruction.answer_500 { Answer::problem(&Problem::internal()) } else { answer };
                (Some(answer.clone()), Outcome::Answered(answer))
            }
        };
        if let Some(idempotency) = &instruction.idempotency {
            let fingerprint = idempotency.fingerprint.clone();
            let record = KeyRecord { fingerprint, answer: answer.as_ref().map(KeptAnswer::from) };
            tables::put(&mut self.keys, &idempotency.key, &record)?;
        }
        Ok(outcome)
    }

    fn charge(
        &mut self,
        request: &ChargeRequest,
        instruction: &Instruction,
        slow: Duration,
    ) -> Result<Executed, LedgerError> {
        let unique = Uuid::now_v7().simple();
        let mut intent = Intent {
            id: format!("pi_{unique}"),
            amount: request.amount,
            currency: request.currency.clone(),
            method: request.method.clone(),
            status: IntentStatus::Processing,
            charge: request.verdict.map(|_| format!("ch_{unique}")),
            refunded: 0,
            declined: None,
            metadata: request.metadata.clone(),
            description: request.description.clone(),
            created: self.now,
        };
        for (name, value) in &intent.metadata {
            self.intents_by_metadata.insert((name.as_str(), value.as_str(), intent.id.as_str()), ())?;
        }
        let key = instruction.idempotency.as_ref().map(|idempotency| idempotency.key.clone());
        let executed = match request.verdict {
            None => {
                intent.status = match intent.method {
                    None => IntentStatus::RequiresPaymentMethod,
                    Some(_) => IntentStatus::RequiresConfirmation,
                };
                Executed::Kept(Answer::object(&stripe::intent_object(&intent)))
            }
            Some(Verdict::Succeeds) => {
                intent.status = IntentStatus::Succeeded;
                self.take(&intent, key)?;
                Executed::Kept(Answer::object(&stripe::intent_object(&intent)))
            }
            Some(Verdict::Declines(decline)) => {
                let declined = decline.into();
                intent.status = IntentStatus::RequiresPaymentMethod;
                intent.declined = Some(decline.into());
                let problem = Problem::declined(&declined, stripe::intent_object(&intent));
                Executed::Kept(Answer::problem(&problem))
            }
            Some(Verdict::SucceedsLate) => {
                let due = (self.now + slow).timestamp_micros();
                let record = Slow { intent: intent.id.clone(), key, answer_500: instruction.answer_500 };
                self.slow.insert((due, intent.id.as_str()), serde_json::to_vec(&record)?.as_slice())?;
                Executed::Later(intent.id.clone())
            }
        };
        tables::put(&mut self.intents, &intent.id, &intent)?;
        Ok(executed)
    }

    fn refund(&mut self, request: &RefundRequest, instruction: &Instruction) -> Result<Executed, LedgerError> {
        let Some(mut intent) = tables::get::<Intent>(&self.intents, &request.intent)? else {
            return Ok(Executed::Refused(Problem::not_found("payment_intent", &request.intent, "payment_intent")));
        };
        let charge = match (&intent.charge, intent.status) {
            (Some(charge), IntentStatus::Succeeded) => charge.clone(),
            _ => return Ok(Executed::Refused(Problem::nothing_to_refund(&intent.id))),
        };
        let left = intent.amount - intent.refunded;
        let amount = request.amount.unwrap_or(left);
        if left == 0 {
            return Ok(Executed::Refused(Problem::already_refunded(&charge)));
        }
        if amount > left {
            return Ok(Executed::Refused(Problem::refund_too_large(amount, left)));
        }
        let refund = Refund {
            id: format!("re_{}", Uuid::now_v7().simple()),
            intent: intent.id.clone(),
            charge,
            amount,
            currency: intent.currency.clone(),
            metadata: request.metadata.clone(),
            reason: request.reason.clone(),
            created: self.now,
        };
        intent.refunded += amount;
        tables::put(&mut self.intents, &intent.id, &intent)?;
        tables::put(&mut self.refunds, &refund.id, &refund)?;
        self.refunds_by_intent.insert((intent.id.as_str(), refund.id.as_str()), ())?;
        let mut metadata = intent.metadata.clone();
        metadata.extend(refund.metadata.clone());
        self.move_money(Movement {
            seq: self.seq + 1,
            kind: MovementKind::Refund,
            id: refund.id.clone(),
            payment_intent: intent.id,
            amount,
            currency: intent.currency,
            metadata,
            idempotency_key: instruction.idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
            time: self.now,
        })?;
        Ok(Executed::Kept(Answer::object(&stripe::refund_object(&refund))))
    }

    /// Takes the money of every slow charge that is due.
    fn settle_due(&mut self) -> Result<Vec<(String, Answer)>, LedgerError> {
        let mut due = Vec::new();
        for entry in self.slow.range(..=(self.now.timestamp_micros(), "\u{10FFFF}"))? {
            let (key, record) = entry?;
            due.push((key.value().0, serde_json::from_slice::<Slow>(record.value())?));
        }
        let mut settled = Vec::new();
        for (time, slow) in due {
            self.slow.remove((time, slow.intent.as_str()))?;
            // Both were written in one transaction.
            let Some(mut intent) = tables::get::<Intent>(&self.intents, &slow.intent)? else { continue };
            intent.status = IntentStatus::Succeeded;
            tables::put(&mut self.intents, &intent.id, &intent)?;
            self.take(&intent, slow.key.clone())?;
            let answer = match slow.answer_500 {
                true => Answer::problem(&Problem::internal()),
                false => Answer::object(&stripe::intent_object(&intent)),
            };
            if let Some(key) = &slow.key
                && let Some(known) = tables::get::<KeyRecord>(&self.keys, key)?
            {
                let record = KeyRecord { answer: Some(KeptAnswer::from(&answer)), ..known };
                tables::put(&mut self.keys, key, &record)?;
            }
            settled.push((intent.id, answer));
        }
        Ok(settled)
    }

    fn next_due(&self) -> Result<Option<Timestamp>, LedgerError> {
        let first = self.slow.first()?.map(|(key, _)| key.value().0);
        Ok(first.and_then(Timestamp::from_timestamp_micros))
    }

    fn take(&mut self, intent: &Intent, idempotency_key: Option<String>) -> Result<(), LedgerError> {
        self.move_money(Movement {
            seq: self.seq + 1,
            kind: MovementKind::Charge,
            id: intent.id.clone(),
            payment_intent: intent.id.clone(),
            amount: intent.amount,
            currency: intent.currency.clone(),
            metadata: intent.metadata.clone(),
            idempotency_key,
            time: self.now,
        })
    }

    fn move_money(&mut self, movement: Movement) -> Result<(), LedgerError> {
        self.seq = movement.seq;
        self.movements.insert(movement.seq, serde_json::to_vec(&movement)?.as_slice())?;
        if let Some(order) = movement.metadata.get("order_id") {
            self.movements_by_order.insert((order.as_str(), movement.seq), ())?;
        }
        let mut totals: Totals = tables::get(&self.totals, &movement.currency)?.unwrap_or_default();
        match movement.kind {
            MovementKind::Charge => {
                totals.charges += 1;
                totals.charged += i128::from(movement.amount);
            }
            MovementKind::Refund => {
                totals.refunds += 1;
                totals.refunded += i128::from(movement.amount);
            }
        }
        tables::put(&mut self.totals, &movement.currency, &totals)
    }
}
