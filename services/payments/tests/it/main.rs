//! The provider's client, against the sandbox with everything that it can do wrong, and against Stripe's own stripe-mock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod finding;
mod limits;
mod outcomes;
mod settings;
mod stripe_mock;
mod support;
