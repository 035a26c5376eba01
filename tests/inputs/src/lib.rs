//! What is done with bytes of strangers before anybody knows whose they are: tokens, page tokens, messages. In: any bytes.
//! Out: nothing, or a panic that names what must not be. A fuzzer calls these (`make fuzz`), and a test of this crate
//! replays the fuzzer's seeds.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a fuzzer looks for")]

mod events;
mod requests;
mod tokens;

pub use events::events;
pub use requests::requests;
pub use tokens::{page_tokens, tokens};

/// What is done with some bytes.
pub type Target = fn(&[u8]);

/// Every target, by its name, which is that of its folder of seeds.
pub const TARGETS: [(&str, Target); 4] =
    [("events", events), ("page_tokens", page_tokens), ("requests", requests), ("tokens", tokens)];
