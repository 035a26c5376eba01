//! What goes wrong with a file.

/// The ledger can't be opened, read or written. Nothing that was answered is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file can't be opened.
    #[error("the ledger can't be opened: {0}")]
    Open(#[from] redb::DatabaseError),
    /// Reading or writing failed.
    #[error("the ledger can't be read or written: {0}")]
    Storage(#[from] redb::Error),
    /// A record isn't what was once written.
    #[error("a record of the ledger can't be read: {0}")]
    Record(#[from] serde_json::Error),
    /// A transaction panicked: a bug.
    #[error("reading or writing the ledger panicked: {0}")]
    Panic(#[from] tokio::task::JoinError),
    /// The writer has ended.
    #[error("the ledger isn't written any more")]
    WriterGone,
}

/// redb has an error type for each kind of call, all of which its general one takes.
macro_rules! storage {
    ($($kind:ty),*) => {$(
        impl From<$kind> for LedgerError {
            fn from(error: $kind) -> Self {
                Self::Storage(error.into())
            }
        }
    )*};
}
storage!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
