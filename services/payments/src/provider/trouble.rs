//! What says nothing about the money.

use std::time::Duration;

/// Nothing definite is known. Never to be taken for "not charged", or "not refunded".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It passes: ask again, with the same key.
    #[error("nothing definite from the payment provider: {}", .why.as_str())]
    Unclear {
        /// What came instead of an answer.
        why: Why,
        /// Not to be asked again before this time has passed.
        retry_after: Option<Duration>,
    },
    /// It doesn't pass by itself: somebody has to mend it. Asking again, seldom, does no harm, and shows when it is mended.
    #[error("the payment provider can't be used: {} (status {status}, code {code:?}): {message}", .fault.as_str())]
    Broken {
        /// What has to be mended.
        fault: Fault,
        /// The answer's.
        status: u16,
        /// The error's code, if it had one.
        code: Option<String>,
        /// What the provider says, without anybody's secret.
        message: String,
    },
}

/// What came instead of a definite answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No answer in time.
    TimedOut,
    /// No connection, or one that was lost before the whole answer had come.
    ConnectionLost,
    /// A 5xx.
    ServerError,
    /// An answer that is kept for the key and isn't definite, such as a 5xx: asking again tells no more, looking it up does.
    AnswerKept,
    /// A 429.
    RateLimited,
    /// The key's first request is still under way, or the charge is.
    UnderWay,
    /// Refused for now: a refund for which the balance doesn't suffice.
    RefusedForNow,
    /// An answer that makes no sense, or is about something else.
    Unreadable,
    /// Nothing was found, which is no proof yet.
    NotSettled,
    /// As many calls are under way as may be.
    Busy,
    /// Too much has failed lately: the provider isn't asked.
    CircuitOpen,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TimedOut,
        Self::ConnectionLost,
        Self::ServerError,
        Self::AnswerKept,
        Self::RateLimited,
        Self::UnderWay,
        Self::RefusedForNow,
        Self::Unreadable,
        Self::NotSettled,
        Self::Busy,
        Self::CircuitOpen,
    ];

    /// For metrics, spans and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::ConnectionLost => "connection_lost",
            Self::ServerError => "server_error",
            Self::AnswerKept => "answer_kept",
            Self::RateLimited => "rate_limited",
            Self::UnderWay => "under_way",
            Self::RefusedForNow => "refused_for_now",
            Self::Unreadable => "unreadable",
            Self::NotSettled => "not_settled",
            Self::Busy => "busy",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

/// What only people can mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A request that the provider finds wrong: a bug of ours, or a key that was used for something else.
    BadRequest,
    /// A secret key that isn't one, or may not do this.
    Unauthorized,
}

impl Fault {
    /// For metrics, spans and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
        }
    }
}

impl Trouble {
    /// For metrics, spans and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unclear { why, .. } => why.as_str(),
            Self::Broken { fault, .. } => fault.as_str(),
        }
    }

    /// Trouble that passes, at some time.
    pub(super) const fn unclear(why: Why) -> Self {
        Self::Unclear { why, retry_after: None }
    }
}
