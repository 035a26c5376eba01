//! What Stripe's API says. In: forms and ids. Out: what is asked for, or a problem in Stripe's own shape; and objects as Stripe
//! shows them. It does no I/O, and reads no clock.

mod form;
pub mod method;
mod objects;
mod problem;
mod requests;
mod search;

pub use form::Form;
pub use objects::{intent_object, list, refund_object, search_result};
pub use problem::Problem;
pub use requests::{ChargeRequest, Metadata, RefundRequest};
pub use search::Term;
