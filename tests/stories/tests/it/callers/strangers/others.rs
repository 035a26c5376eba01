//! What is somebody else's, isn't there, is over, or was asked for already.

use anyhow::Result;
use serde_json::json;
use stories::{Refused, stranger::Sent};
use tonic::Code;
use uuid::Uuid;

use super::{Case, Town, but, refused};

impl Town<'_> {
    pub(super) fn of_others(&self) -> Result<Vec<Case>> {
        let (order, ticket, payment) = (&self.order, &self.ticket, &self.payment);
        let (visa, unknown) = ("pm_card_visa", Uuid::now_v7().to_string());
        [
            ("mallory", "GetOrder", json!({"id": order}), not_found()),
            ("mallory", "CancelOrder", json!({"id": order}), not_found()),
            ("mallory", "WatchOrder", json!({"id": order}), not_found()),
            ("mallory", "CreatePayment", json!({"order_id": order, "payment_method": visa}), not_found()),
            ("mallory", "GetPayment", json!({"id": payment}), not_found()),
            ("mallory", "ListOrders", json!({"user_id": "bob"}), denied()),
            ("mallory", "UpdateTicket", json!({"id": ticket, "title": "Mine"}), denied()),
            ("mallory", "WithdrawTicket", json!({"id": ticket}), denied()),
            ("mallory", "GetExpiration", json!({"order_id": order}), denied()),
            ("mallory", "ListExpirations", json!({}), denied()),
            // Operators see all and change nothing.
            ("olga", "CancelOrder", json!({"id": order}), not_found()),
            ("olga", "CreatePayment", json!({"order_id": order, "payment_method": visa}), not_found()),
            ("olga", "UpdateTicket", json!({"id": ticket, "title": "Mine"}), denied()),
            ("olga", "WithdrawTicket", json!({"id": ticket}), denied()),
            // What there isn't.
            ("bob", "GetOrder", json!({"id": unknown}), not_found()),
            ("bob", "CancelOrder", json!({"id": unknown}), not_found()),
            ("bob", "WatchOrder", json!({"id": unknown}), not_found()),
            ("bob", "CreateOrder", json!({"ticket_id": unknown}), not_found()),
            ("bob", "GetPayment", json!({"id": unknown}), not_found()),
            ("bob", "GetTicket", json!({"id": unknown}), not_found()),
            ("alice", "UpdateTicket", json!({"id": unknown, "title": "Mine"}), not_found()),
            ("alice", "WithdrawTicket", json!({"id": unknown}), not_found()),
            ("olga", "GetExpiration", json!({"order_id": unknown}), not_found()),
            // What is over.
            ("bob", "CancelOrder", json!({"id": self.paid}), refused(Code::FailedPrecondition, "ORDER_COMPLETED")),
            (
                "bob",
                "CreatePayment",
                json!({"order_id": self.paid, "payment_method": visa}),
                refused(Code::FailedPrecondition, "ALREADY_PAID"),
            ),
            (
                "alice",
                "UpdateTicket",
                json!({"id": ticket, "title": "Late", "expected_revision": -1}),
                refused(Code::Aborted, "REVISION_MISMATCH"),
            ),
            // Another request under a request's id.
            ("alice", "CreateTicket", but(&self.create_ticket(), &[("title", json!("Opera"))]), reused()),
            ("alice", "CreateTicket", but(&self.create_ticket(), &[("quantity", json!(9))]), reused()),
            ("bob", "CreateOrder", but(&self.create_order(), &[("quantity", json!(2))]), reused()),
            ("bob", "CreateOrder", but(&self.create_order(), &[("ticket_id", json!(self.dear))]), reused()),
            ("bob", "CreatePayment", but(&self.create_payment(), &[("payment_method", json!("pm_other"))]), reused()),
            ("bob", "CreatePayment", but(&self.create_payment(), &[("order_id", json!(order))]), reused()),
        ]
        .into_iter()
        .map(|(user, rpc, message, back)| {
            let name = format!("{user}: {rpc} {message}");
            Ok(Case::new(&name, self.by(user, rpc, Sent::Message(message))?, Some(back)))
        })
        .collect()
    }
}

fn not_found() -> Refused {
    refused(Code::NotFound, "NOT_FOUND")
}

fn denied() -> Refused {
    refused(Code::PermissionDenied, "PERMISSION_DENIED")
}

fn reused() -> Refused {
    refused(Code::AlreadyExists, "REQUEST_ID_REUSED")
}
