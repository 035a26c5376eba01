//! The tables, as Diesel sees them.
#![allow(missing_docs, reason = "columns are documented where they are made, in the migrations")]

diesel::table! {
    accounts (order_id) {
        order_id -> Uuid,
        user_id -> Text,
        currency -> Text,
        total -> BigInt,
        order_status -> SmallInt,
        order_version -> BigInt,
        traceparent -> Text,
        tracestate -> Nullable<Text>,
    }
}

diesel::table! {
    payments (id) {
        id -> Uuid,
        order_id -> Uuid,
        user_id -> Text,
        method -> Text,
        status -> SmallInt,
        failure_reason -> Nullable<Text>,
        provider -> Text,
        provider_reference -> Nullable<Text>,
        tries -> Integer,
        key_number -> Integer,
        keyed_at -> Timestamptz,
        looking_since -> Nullable<Timestamptz>,
        next_try_at -> Timestamptz,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::joinable!(payments -> accounts (order_id));
diesel::allow_tables_to_appear_in_same_query!(accounts, payments);
