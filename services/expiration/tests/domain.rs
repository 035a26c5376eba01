//! The rules of timers, in one table.
#![allow(clippy::unwrap_used, reason = "what a test builds is there")]

use expiration::domain::{Command, Expiration, Expirations, OrderId, Status};
use shared::{clock::Timestamp, command::Domain, telemetry::TraceContext};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

#[test]
fn a_timer_is_set_once_and_either_fires_or_is_dropped() {
    use Status::{Dropped, Expired, Scheduled};
    // By status before: after the order was placed, after it ended, after the timer was due. `None`: no timer.
    let table = [
        (None, Some(Scheduled), Some(Dropped), None),
        (Some(Scheduled), Some(Scheduled), Some(Dropped), Some(Expired)),
        (Some(Expired), Some(Expired), Some(Expired), Some(Expired)),
        (Some(Dropped), Some(Dropped), Some(Dropped), Some(Dropped)),
    ];
    for (before, placed, ended, due) in table {
        let order = OrderId::new();
        let trace = TraceContext::root();
        let state = before.map(|status| Expiration { order, expires_at: at(60), status, trace: trace.clone() });
        for (news, expected) in [
            (Command::Schedule { order, expires_at: at(60), trace: trace.clone() }, placed),
            (Command::Drop { order, expires_at: at(60), trace }, ended),
            (Command::Fire(order), due),
        ] {
            let Ok(events) = Expirations::decide(&state, &news, at(0));
            let status = events.iter().fold(state.clone(), Expirations::apply).map(|timer| timer.status);
            assert_eq!(status, expected, "{before:?} hears {news:?}");
        }
    }
}

#[test]
fn a_timer_fires_when_its_database_says_so_whatever_this_clock_says() {
    let order = OrderId::new();
    let timer = Expiration { order, expires_at: at(60), status: Status::Scheduled, trace: TraceContext::root() };
    let Ok(events) = Expirations::decide(&Some(timer), &Command::Fire(order), at(0));
    assert_eq!(events.len(), 1);
}
