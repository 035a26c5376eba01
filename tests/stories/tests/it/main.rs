//! The specification, told as stories. Each has a world of its own; see the crate for what that is.

mod absences;
mod api;
mod audit;
mod crashes;
mod gateway;
mod gateway_browser;
mod gateway_limits;
mod gateway_refusals;
mod gateway_settings;
mod jaeger;
mod kafka;
mod killing;
mod lives;
mod money;
mod money_crashes;
mod money_expiring;
mod money_faults;
mod money_once;
mod once;
mod order_of_events;
mod settings;
mod stock;
mod traces;
mod twice;
mod unheard;
mod watching;
