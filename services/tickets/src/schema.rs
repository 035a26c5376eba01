//! The tables, as Diesel sees them.
#![allow(missing_docs, reason = "columns are documented where they are made, in the migrations")]

diesel::table! {
    tickets (id) {
        id -> Uuid,
        seller_id -> Text,
        title -> Text,
        currency -> Text,
        price -> BigInt,
        quantity -> Integer,
        reserved -> Integer,
        sold -> Integer,
        status -> SmallInt,
        version -> BigInt,
        revision -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    reservations (order_id) {
        order_id -> Uuid,
        ticket_id -> Uuid,
        quantity -> Integer,
        status -> SmallInt,
    }
}
