//! What the writer is asked to do, and what it answers.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::in_flight::Held;
use crate::stripe::{ChargeRequest, Form, Problem, RefundRequest};

/// Something that moves money.
#[derive(Clone, Debug)]
pub enum Request {
    /// Take it, or only intend to.
    Charge(ChargeRequest),
    /// Give it back.
    Refund(RefundRequest),
}

/// The key by which a request is done once, and by what its repetitions are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// As the caller gave it.
    pub key: String,
    /// Of the path and all parameters.
    pub fingerprint: String,
}

impl Idempotency {
    /// The key of a request with this path and form.
    pub fn new(key: &str, path: &str, form: &Form) -> Self {
        let mut hash = Sha256::new();
        // No field holds a zero byte that its neighbour could be mistaken for: lengths go first.
        let parts = [path].into_iter().chain(form.sorted().into_iter().flat_map(|(name, value)| [name, value]));
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key: key.to_owned(), fingerprint }
    }
}

/// A request to be executed, and how. No order: that is the buyer's.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What to do.
    pub request: Request,
    /// Once, if it has a key.
    pub idempotency: Option<Idempotency>,
    /// Whether a 500 is kept and answered in place of what happened.
    pub answer_500: bool,
}

/// A status and a body: what is kept by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
    /// Whether it was kept from an earlier request.
    pub replayed: bool,
}

impl Answer {
    /// It was done, and this is the object.
    pub fn object(object: &Value) -> Self {
        Self { status: 200, body: object.to_string().into(), replayed: false }
    }

    /// It wasn't, or not as it was meant.
    pub fn problem(problem: &Problem) -> Self {
        Self { status: problem.status, body: problem.body().to_string().into(), replayed: false }
    }
}

/// An instruction on its way to the writer.
pub(super) struct Submitted {
    pub(super) instruction: Instruction,
    /// Given back when the instruction is on disk, before it is answered.
    pub(super) held: Option<Held>,
    pub(super) answer: oneshot::Sender<Answer>,
}
