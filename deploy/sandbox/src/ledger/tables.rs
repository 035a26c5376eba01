//! The tables, and how records go in and out.

use redb::{ReadableTable, Table, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

use super::LedgerError;

type Json = &'static [u8];

/// Movements by their sequence number.
pub(super) const MOVEMENTS: TableDefinition<'_, u64, Json> = TableDefinition::new("movements");
/// Movements' numbers by the `order_id` of their metadata.
pub(super) const MOVEMENTS_BY_ORDER: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("movements_by_order");
/// Intents by their id.
pub(super) const INTENTS: TableDefinition<'_, &str, Json> = TableDefinition::new("intents");
/// Intents' ids by an entry of their metadata: name, value, id.
pub(super) const INTENTS_BY_METADATA: TableDefinition<'_, (&str, &str, &str), ()> =
    TableDefinition::new("intents_by_metadata");
/// Refunds by their id.
pub(super) const REFUNDS: TableDefinition<'_, &str, Json> = TableDefinition::new("refunds");
/// Refunds' ids by their intent's.
pub(super) const REFUNDS_BY_INTENT: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("refunds_by_intent");
/// What is known of idempotency keys.
pub(super) const KEYS: TableDefinition<'_, &str, Json> = TableDefinition::new("keys");
/// Slow charges by when they are due (microseconds since 1970) and their intent.
pub(super) const SLOW: TableDefinition<'_, (i64, &str), Json> = TableDefinition::new("slow");
/// Sums by currency.
pub(super) const TOTALS: TableDefinition<'_, &str, Json> = TableDefinition::new("totals");

/// What is at a key, read.
pub(super) fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, Json>,
    key: &str,
) -> Result<Option<T>, LedgerError> {
    let found = table.get(key)?;
    Ok(found.map(|bytes| serde_json::from_slice(bytes.value())).transpose()?)
}

/// Puts a record at a key.
pub(super) fn put(table: &mut Table<'_, &str, Json>, key: &str, record: &impl Serialize) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec(record)?;
    table.insert(key, bytes.as_slice())?;
    Ok(())
}

/// The third parts of the keys that begin with these two, in order, at most so many.
pub(super) fn third_parts(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), ()>,
    first: &str,
    second: &str,
    limit: usize,
) -> Result<Vec<String>, LedgerError> {
    let mut parts = Vec::new();
    for entry in table.range((first, second, "")..)?.take(limit) {
        let (key, _) = entry?;
        match key.value() {
            (a, b, third) if (a, b) == (first, second) => parts.push(third.to_owned()),
            _ => break,
        }
    }
    Ok(parts)
}

/// The second parts of the keys that begin with this, in order.
pub(super) fn second_parts(
    table: &impl ReadableTable<(&'static str, &'static str), ()>,
    first: &str,
) -> Result<Vec<String>, LedgerError> {
    let mut parts = Vec::new();
    for entry in table.range((first, "")..)? {
        let (key, _) = entry?;
        match key.value() {
            (a, second) if a == first => parts.push(second.to_owned()),
            _ => break,
        }
    }
    Ok(parts)
}
