//! The tables, as Diesel sees them.
#![allow(missing_docs, reason = "columns are documented where they are made, in the migrations")]

diesel::table! {
    expirations (order_id) {
        order_id -> Uuid,
        expires_at -> Timestamptz,
        status -> SmallInt,
        traceparent -> Text,
        tracestate -> Nullable<Text>,
    }
}
