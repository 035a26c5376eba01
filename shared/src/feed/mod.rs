//! Watching: what a service's own topic tells of a key, passed on live to whoever watches it, whichever replica caused it.
//!
//! Comes in: the topic's messages, from its end on, read without a group by every replica as long as anybody watches
//! there. Goes out: the newest state of each watched key, and the word that some may have been missed, upon which a
//! watcher reads the state again. Keeps nothing else, and never decides anything.
//!
//! A watcher registers first and reads the state then: what changes after its reading is told by the topic, later than
//! its registration. A slow reader finds the newest state only, so that memory is bounded by how many watch.

mod follow;
mod metrics;
mod tail;
mod watches;

pub use follow::follow;
pub(crate) use metrics::FeedMetrics;
pub(crate) use tail::Tail;
pub use watches::{Feed, News, TooMany, Watch};

use crate::{
    inbox::{Delivery, Undecodable},
    version::Version,
};

/// How a message is read: the state that it tells of, and which one that is; `None` if it tells of none.
pub type Read<T> = fn(&Delivery<'_>) -> Result<Option<(Version, T)>, Undecodable>;
