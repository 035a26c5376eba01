//! Refusals as clients see them.

use anyhow::{Context, Result, bail};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call's failure, as far as clients act on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// `ErrorInfo`'s reason.
    pub reason: String,
    /// Whether `RetryInfo` says that a retry makes sense.
    pub retry: bool,
    /// The fields that `BadRequest` names.
    pub fields: Vec<String>,
}

impl Refused {
    /// A refusal without fields or retry.
    pub fn new(code: Code, reason: &str) -> Self {
        Self { code, reason: reason.to_owned(), retry: false, fields: Vec::new() }
    }

    /// How a call was refused.
    ///
    /// # Errors
    ///
    /// It wasn't, or without the details that every error has.
    pub fn of<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Result<Self> {
        let status = match outcome {
            Ok(answer) => bail!("this was not refused: {answer:?}"),
            Err(status) => status,
        };
        let details = status.get_error_details();
        let info = details.error_info().with_context(|| format!("no ErrorInfo: {status:?}"))?;
        if info.domain != "ticketing" {
            bail!("of another domain: {status:?}");
        }
        let violations = details.bad_request().map(|request| request.field_violations.as_slice()).unwrap_or_default();
        Ok(Self {
            code: status.code(),
            reason: info.reason.clone(),
            retry: details.retry_info().is_some(),
            fields: violations.iter().map(|violation| violation.field.clone()).collect(),
        })
    }
}
