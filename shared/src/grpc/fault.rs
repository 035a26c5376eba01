//! What callers are answered when a call fails: one type, one shape.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{command::Failure, db::PoolError, feed::TooMany, telemetry::Spell};

/// The domain of every reason (`google.rpc.ErrorInfo`).
pub const DOMAIN: &str = "ticketing";

/// A call's failure: a code, a reason that programs compare, and a message for people.
///
/// Becomes a [`Status`] with `ErrorInfo`, and `BadRequest` and `RetryInfo` where they apply. It holds nothing that the
/// caller may not see: causes are logged where they are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Code,
    reason: &'static str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    fields: Vec<FieldFault>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Its path, like `price.currency_code`.
    pub field: Cow<'static, str>,
    /// What it should be.
    pub description: Cow<'static, str>,
}

impl Fault {
    /// A failure with this code and reason (UPPER_SNAKE_CASE, at most 63 characters). Its neighbours name the usual ones.
    pub fn new(code: Code, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None, fields: Vec::new() }
    }

    /// `INVALID_ARGUMENT`: these fields are missing, malformed or out of bounds.
    pub fn invalid(fields: Vec<FieldFault>) -> Self {
        let names: Vec<_> = fields.iter().map(|fault| format!("{} {}", fault.field, fault.description)).collect();
        Self { fields, ..Self::new(Code::InvalidArgument, "INVALID_ARGUMENT", names.join("; ")) }
    }

    /// `UNAUTHENTICATED`: there is no valid token.
    pub fn unauthenticated(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
    }

    /// `PERMISSION_DENIED`: the caller is known, and may not do this.
    pub fn permission_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PermissionDenied, "PERMISSION_DENIED", message)
    }

    /// `NOT_FOUND`: there is no such thing, or none that the caller may know of.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", message)
    }

    /// `ALREADY_EXISTS`.
    pub fn already_exists(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::AlreadyExists, reason, message)
    }

    /// `ABORTED`: somebody else was faster; look again before the next try.
    pub fn aborted(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Aborted, reason, message)
    }

    /// `FAILED_PRECONDITION`: the state of things forbids it.
    pub fn failed_precondition(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// `RESOURCE_EXHAUSTED` / `OVERLOADED`: more is waiting than this server takes on. Nothing was begun.
    pub fn overloaded() -> Self {
        Self::new(Code::ResourceExhausted, "OVERLOADED", "the server has too much to do just now")
            .retry_after(Duration::from_millis(500))
    }

    /// `UNAVAILABLE`: what this needs can't be reached just now.
    pub fn unavailable(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, reason, message).retry_after(Duration::from_secs(1))
    }

    /// `UNAVAILABLE` / `DATABASE_UNAVAILABLE`.
    pub fn database_unavailable() -> Self {
        Self::unavailable("DATABASE_UNAVAILABLE", "the database can't be reached just now")
    }

    /// `DEADLINE_EXCEEDED`: what the call asked for may still happen.
    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline ran out; what was asked may still happen")
    }

    /// `INTERNAL`: our mistake. Whoever makes this logs why.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "INTERNAL", "something went wrong on our side")
    }

    /// The same, and a retry makes sense after so long (`RetryInfo`).
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for Fault {}

/// One watch more than this server takes on.
impl From<TooMany> for Fault {
    fn from(too_many: TooMany) -> Self {
        match too_many {
            TooMany::InAll => Self::overloaded(),
            // No retry makes sense before one of them has ended, which only its user can see to.
            TooMany::OfUser => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_WATCHES", "you watch as much as one may at once")
            }
        }
    }
}

/// While the database is away every read fails, as often as callers ask.
static UNREAD: Spell = Spell::new();

/// A read that could not be made.
impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        if let Some(left_out) = UNREAD.happens(Instant::now()) {
            tracing::warn!(%error, left_out, "a read was refused");
        }
        Self::database_unavailable()
    }
}

/// A read that failed.
impl From<diesel::result::Error> for Fault {
    fn from(error: diesel::result::Error) -> Self {
        match error {
            diesel::result::Error::DeserializationError(error) => {
                tracing::error!(%error, "a row can't be read");
                Self::internal()
            }
            error => {
                if let Some(left_out) = UNREAD.happens(Instant::now()) {
                    tracing::warn!(%error, left_out, "a read failed");
                }
                Self::database_unavailable()
            }
        }
    }
}

impl<R> Failure<R> {
    /// What the caller is answered; refusals are the service's own to put into words.
    pub fn fault(self, refused: impl FnOnce(R) -> Fault) -> Fault {
        match self {
            Self::Refused(refusal) => refused(refusal),
            Self::RequestIdReused => {
                Fault::already_exists("REQUEST_ID_REUSED", "this request_id was used for another request")
            }
            Self::Overloaded => Fault::overloaded(),
            Self::Unavailable => Fault::database_unavailable(),
            Self::DeadlineExceeded => Fault::deadline_exceeded(),
            Self::Internal => Fault::internal(),
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::with_error_info(fault.reason, DOMAIN, HashMap::new());
        if let Some(delay) = fault.retry_after {
            details.set_retry_info(Some(delay));
        }
        if !fault.fields.is_empty() {
            let violation = |fault: FieldFault| FieldViolation::new(fault.field, fault.description);
            details.set_bad_request(fault.fields.into_iter().map(violation).collect::<Vec<_>>());
        }
        Self::with_error_details(fault.code, fault.message, details)
    }
}
