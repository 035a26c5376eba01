//! Payments: what orders are paid with. Each is charged once at the provider, and given back if its order doesn't come to be.

pub mod provider;
