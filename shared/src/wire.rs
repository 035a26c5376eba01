//! Pieces of every adapter: fields of other services' events, read as this program's own types, and times as protobuf
//! has them.
//!
//! Requests are checked by [`grpc::Fields`](crate::grpc::Fields), which collects all faults for their caller. Events
//! come from services that keep to the contract, so that the first fault ends it.

use chrono::DateTime;

use crate::{clock::Timestamp, id::Id, inbox::Undecodable, money::Money};

/// A message that has to be there.
///
/// # Errors
///
/// It isn't.
pub fn required<T>(field: &str, given: Option<T>) -> Result<T, Undecodable> {
    given.ok_or_else(|| Undecodable::Contract(format!("{field} is missing")))
}

/// An id.
///
/// # Errors
///
/// It is no UUID.
pub fn id<K>(field: &str, text: &str) -> Result<Id<K>, Undecodable> {
    text.parse().map_err(|error| Undecodable::Contract(format!("{field}: {error}")))
}

/// An amount of money: its currency's code and how many of its minor units.
///
/// # Errors
///
/// It is missing, or of no known currency.
pub fn money(field: &str, given: Option<(&str, i64)>) -> Result<Money, Undecodable> {
    let (code, minor_units) = required(field, given)?;
    Money::from_code(code, minor_units).map_err(|invalid| Undecodable::Contract(format!("{field}: {invalid}")))
}

/// A point in time.
///
/// # Errors
///
/// It is missing, or out of range.
pub fn time(field: &str, given: Option<prost_types::Timestamp>) -> Result<Timestamp, Undecodable> {
    let time = required(field, given)?;
    let nanos = u32::try_from(time.nanos).ok();
    nanos
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .ok_or_else(|| Undecodable::Contract(format!("{field} is no point in time")))
}

/// A point in time, as protobuf has it.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // Nanoseconds within a second are below 2 to the 31; a leap second's may reach two seconds' worth, which is too.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}
