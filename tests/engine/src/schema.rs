//! The table, as Diesel sees it.
#![allow(missing_docs, reason = "columns are documented where they are made, in the migrations")]

diesel::table! {
    counters (id) {
        id -> Uuid,
        owner -> Text,
        title -> Text,
        value -> Integer,
        limit -> Integer,
        version -> BigInt,
        resets_at -> Nullable<Timestamptz>,
    }
}
