//! The specification, told as stories. Each has a world of its own; see the crate for what that is.

/// What every client meets, and what no client of ours would send.
mod callers {
    mod api;
    mod floods;
    mod request_ids;
    mod strangers;
    mod watching;
}

/// How orders live and end, and what they hold of stock.
mod orders {
    mod event_order;
    mod lives;
    mod redelivery;
    mod stock;
}

/// How orders are paid: once, whatever the provider or anybody's death makes of it.
mod money {
    mod crashes;
    mod expiring;
    mod faults;
    mod once;
    mod paying;
}

/// The edge.
mod gateway {
    mod browser;
    mod calls;
    mod limits;
    mod refusals;
    mod settings;
}

/// What dies, sleeps, or isn't there.
mod faults {
    mod absences;
    mod crashes;
    mod killing;
    mod useless_collectors;
}

/// What operators and other systems see: settings, logs, metrics, alerts, traces, topics, the auditor.
mod operators {
    mod alerts;
    mod audit;
    mod idling;
    mod jaeger;
    mod kafka;
    mod logs;
    mod metrics;
    mod settings;
    mod traces;
}
