//! The tables, as Diesel sees them.
#![allow(missing_docs, reason = "columns are documented where they are made, in the migrations")]

diesel::table! {
    orders (id) {
        id -> Uuid,
        user_id -> Text,
        ticket_id -> Uuid,
        ticket_title -> Text,
        quantity -> Integer,
        currency -> Text,
        unit_price -> BigInt,
        status -> SmallInt,
        cancel_reason -> Nullable<SmallInt>,
        expires_at -> Timestamptz,
        traceparent -> Text,
        tracestate -> Nullable<Text>,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    tickets (id) {
        id -> Uuid,
        title -> Text,
        currency -> Text,
        price -> BigInt,
        available -> Integer,
        withdrawn -> Bool,
        version -> BigInt,
    }
}
