//! What an error of the database means for the work that met it.

use diesel::result::{DatabaseErrorKind, Error};

use super::sqlstate::ServerError;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The database will never take this work: some command in it is at fault.
    Rejected,
    /// A row stayed locked by another for longer than `lock_timeout`.
    Locked,
    /// Nothing is wrong with the work: try again, on a new connection.
    Infrastructure,
}

/// Judges an error by its SQLSTATE, where the server gave one.
///
/// Rejected is what the data is to blame for: the classes 22 (data exception), 23 (integrity constraint violation) and
/// 54 (program limit exceeded). Everything that isn't known to be the work's own fault is taken for a fault of the
/// infrastructure, which retries: a stall that an operator sees beats work that is given up.
pub(super) fn fault(error: &Error, said: Option<ServerError>) -> Fault {
    match (said, error) {
        // A violated check has a name. Without one it is a row that no partition of the outbox is for yet: that is about to be
        // made, and the work is none the worse.
        (Some(ServerError { state, names_constraint: false }), _) if &state == b"23514" => Fault::Infrastructure,
        (Some(ServerError { state: [b'2', b'2' | b'3', ..] | [b'5', b'4', ..], .. }), _) => Fault::Rejected,
        (Some(ServerError { state, .. }), _) if &state == b"55P03" => Fault::Locked,
        (Some(_), _) => Fault::Infrastructure,
        // Never left this process: a value that can't be written for Postgres.
        (None, Error::SerializationError(_) | Error::QueryBuilderError(_)) => Fault::Rejected,
        // Whoever reads that row next reads the same: what needs it is at fault, and nothing else waits for it.
        (None, Error::DeserializationError(why)) if why.is::<Corrupt>() => Fault::Rejected,
        (
            None,
            Error::DatabaseError(
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::ExclusionViolation
                | DatabaseErrorKind::RestrictViolation,
                _,
            ),
        ) => Fault::Rejected,
        (None, _) => Fault::Infrastructure,
    }
}

/// A row that holds what this program never wrote.
#[derive(Debug, thiserror::Error)]
#[error("the column {0} holds what it never should")]
pub struct Corrupt(pub &'static str);

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::DeserializationError(Box::new(corrupt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_data_is_to_blame_for_is_rejected() {
        for (state, names_constraint, expected) in [
            (b"22021", false, Fault::Rejected),       // a zero byte in a text
            (b"23505", true, Fault::Rejected),        // unique
            (b"23514", true, Fault::Rejected),        // check
            (b"23514", false, Fault::Infrastructure), // no partition
            (b"54000", false, Fault::Rejected),       // an index row too large
            (b"55P03", false, Fault::Locked),         // lock_timeout
            (b"40P01", false, Fault::Infrastructure), // deadlock
            (b"25P03", false, Fault::Infrastructure), // idle in transaction
            (b"53100", false, Fault::Infrastructure), // disk full
            (b"57P01", false, Fault::Infrastructure), // shutting down
            (b"42P01", false, Fault::Infrastructure), // a table is missing: not migrated yet
        ] {
            let said = ServerError { state: *state, names_constraint };
            assert_eq!(fault(&Error::NotFound, Some(said)), expected, "{}", String::from_utf8_lossy(state));
        }
        assert_eq!(fault(&Error::BrokenTransactionManager, None), Fault::Infrastructure);
        assert_eq!(fault(&Corrupt("status").into(), None), Fault::Rejected);
        assert_eq!(fault(&Error::DeserializationError("cut off".into()), None), Fault::Infrastructure);
    }
}
