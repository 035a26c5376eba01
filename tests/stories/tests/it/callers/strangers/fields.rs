//! Each field of each call: missing, empty, too long, out of bounds, with what it mustn't have.

use anyhow::Result;
use serde_json::{Value, json};
use stories::stranger::{Sent, Way};

use super::{Case, Town, but, invalid, malformed};

impl Town<'_> {
    pub(super) fn fields(&self) -> Result<Vec<Case>> {
        let (ids, long) = (not_ids(), "é".repeat(201));
        let mut cases = Vec::new();
        let mut add = |user: &str, rpc: &'static str, sound: &Value, changes: &[(&str, Value)], fields: &[&str]| {
            let message = but(sound, changes);
            let name = format!("{rpc} {:.200}", message.to_string());
            cases.push(Case::new(&name, self.by(user, rpc, Sent::Message(message))?, Some(invalid(fields))));
            anyhow::Ok(())
        };

        // Without the request's id, which would answer before anything is judged.
        let ticket = but(&self.create_ticket(), &[("request_id", Value::Null)]);
        let order = but(&self.create_order(), &[("request_id", Value::Null)]);
        let payment = json!({"order_id": self.order, "payment_method": "pm_card_visa"});
        let edit = json!({"id": self.ticket, "title": "Opera"});
        let titles = ["", "\u{0}", "a\u{7}b", "a\nb", "a\u{7f}", "a\u{85}b", "\u{9b}31m", &long];
        let amounts = [
            (json!({"minor_units": 1}), "currency_code"),
            (json!({"currency_code": "", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "usd", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "XYZ", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "USD ", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "U\u{0}D", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "DOLLARS", "minor_units": 1}), "currency_code"),
            (json!({"currency_code": "USD", "minor_units": -1}), "minor_units"),
            (json!({"currency_code": "USD", "minor_units": i64::MIN}), "minor_units"),
        ];
        for title in titles {
            add("alice", "CreateTicket", &ticket, &[("title", json!(title))], &["title"])?;
            add("alice", "UpdateTicket", &edit, &[("title", json!(title))], &["title"])?;
        }
        for quantity in [0, -1, 1_000_001, i32::MAX, i32::MIN] {
            let quantity = [("quantity", json!(quantity))];
            add("alice", "CreateTicket", &ticket, &quantity, &["quantity"])?;
            add("alice", "UpdateTicket", &edit, &quantity, &["quantity"])?;
            add("bob", "CreateOrder", &order, &quantity, &["quantity"])?;
        }
        for (amount, field) in amounts {
            for (user, rpc, sound, name) in [
                ("alice", "CreateTicket", &ticket, "price"),
                ("alice", "UpdateTicket", &edit, "price"),
                ("bob", "CreateOrder", &order, "unit_price"),
            ] {
                add(user, rpc, sound, &[(name, amount.clone())], &[&format!("{name}.{field}")])?;
            }
        }
        for id in &ids {
            let id = json!(id);
            for (user, rpc, sound, name) in [
                ("alice", "CreateTicket", &ticket, "request_id"),
                ("bob", "CreateOrder", &order, "request_id"),
                ("bob", "CreatePayment", &payment, "request_id"),
                ("alice", "UpdateTicket", &edit, "id"),
                ("alice", "WithdrawTicket", &json!({}), "id"),
                ("alice", "GetTicket", &json!({}), "id"),
                ("bob", "CreateOrder", &order, "ticket_id"),
                ("bob", "GetOrder", &json!({}), "id"),
                ("bob", "CancelOrder", &json!({}), "id"),
                ("bob", "WatchOrder", &json!({}), "id"),
                ("bob", "CreatePayment", &payment, "order_id"),
                ("bob", "GetPayment", &json!({}), "id"),
                ("bob", "ListPayments", &json!({}), "order_id"),
                ("olga", "GetExpiration", &json!({}), "order_id"),
            ] {
                add(user, rpc, sound, &[(name, id.clone())], &[name])?;
            }
        }
        add("alice", "CreateTicket", &ticket, &[("title", Value::Null)], &["title"])?;
        add("alice", "CreateTicket", &ticket, &[("price", Value::Null)], &["price"])?;
        add("alice", "CreateTicket", &json!({}), &[], &["title", "price"])?;
        add("alice", "UpdateTicket", &json!({"id": self.ticket}), &[], &["title"])?;
        add("bob", "CreateOrder", &json!({}), &[], &["ticket_id"])?;
        add("bob", "CreatePayment", &json!({}), &[], &["order_id", "payment_method"])?;
        for method in ["", "pm\u{0}", "pm\n", &"p".repeat(101)] {
            add("bob", "CreatePayment", &payment, &[("payment_method", json!(method))], &["payment_method"])?;
        }
        add("bob", "WatchOrder", &json!({"id": self.order}), &[("after_version", json!(-1))], &["after_version"])?;
        // Sums that would be more than any money, by the price that is known and by one that is said.
        let dear = [("ticket_id", json!(self.dear)), ("quantity", json!(2))];
        add("bob", "CreateOrder", &order, &dear, &["quantity"])?;
        let said = json!({"currency_code": "USD", "minor_units": i64::MAX / 2});
        add("bob", "CreateOrder", &order, &[("unit_price", said), ("quantity", json!(3))], &["quantity"])?;

        for (user, rpc, page) in [
            ("alice", "ListTickets", &self.orders_page),
            ("bob", "ListTickets", &self.tickets_page),
            ("bob", "ListOrders", &self.tickets_page),
            ("mallory", "ListOrders", &self.orders_page),
            ("olga", "ListOrders", &self.orders_page),
            ("bob", "ListPayments", &self.orders_page),
            ("olga", "ListExpirations", &self.orders_page),
        ] {
            let forged: String = page.chars().rev().collect();
            for token in [page.as_str(), &forged, &page[1..], "AAAA", "%", "\u{0}", "' OR 1=1 --", &"A".repeat(5000)] {
                add(user, rpc, &json!({}), &[("page_token", json!(token))], &["page_token"])?;
            }
            for size in [-1, i32::MIN] {
                add(user, rpc, &json!({}), &[("page_size", json!(size))], &["page_size"])?;
            }
        }
        // Of one's own list, but with another filter.
        let other = json!({"page_token": self.tickets_page});
        add("alice", "ListTickets", &other, &[("seller_id", json!("alice"))], &["page_token"])?;
        for (user, rpc) in [("alice", "ListTickets"), ("bob", "ListOrders"), ("olga", "ListExpirations")] {
            for status in [0, 9, -1] {
                add(user, rpc, &json!({}), &[("status", json!(status))], &["status"])?;
            }
        }
        for name in ["", "\u{0}", "a\u{7}b", &"a".repeat(256)] {
            add("alice", "ListTickets", &json!({}), &[("seller_id", json!(name))], &["seller_id"])?;
            add("olga", "ListOrders", &json!({}), &[("user_id", json!(name))], &["user_id"])?;
        }
        let all = json!({
            "title": "", "price": {"currency_code": "?", "minor_units": -1}, "quantity": 0, "request_id": "?",
        });
        let of_all = ["title", "price.currency_code", "price.minor_units", "quantity", "request_id"];
        add("alice", "CreateTicket", &all, &[], &of_all)?;
        // No HTTP path holds NUL, and no query a number of an enum that has no name.
        for case in &mut cases {
            let Sent::Message(message) = &case.call.sent else { continue };
            let has_nul = |name: &str| message[name].as_str().is_some_and(|id| id.contains('\0'));
            let in_path = has_nul("id") || case.call.rpc == "GetExpiration" && has_nul("order_id");
            if in_path || message["status"].as_i64().is_some_and(|status| status != 0) {
                case.but.push((Way::Json, Some(malformed())));
            }
        }
        Ok(cases)
    }
}

/// What is no UUID, or none as the contract writes them.
fn not_ids() -> Vec<String> {
    let long = "0".repeat(5000);
    [
        "",
        "1",
        "no id",
        "550e8400e29b41d4a716446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}",
        "550e8400-e29b-41d4-a716-44665544000g",
        "550e8400-e29b-41d4-a716-4466554400000",
        "' OR 1=1 --",
        "\u{0}",
        &long,
    ]
    .map(str::to_owned)
    .to_vec()
}
