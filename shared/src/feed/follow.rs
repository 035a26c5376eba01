//! A watch as a stream of states that only ever get newer.

use std::future::Future;

use futures_util::stream::{Stream, try_unfold};

use super::{News, Watch};
use crate::{grpc::Fault, version::Version};

/// The states of what is watched, each newer than the one before and than `after`, to the last one there can be.
///
/// `read` tells the present state: it is asked at the beginning, for the watch was open before, and after every gap.
/// The stream ends well after a state that is `last`, and at once if `after` has it already.
pub fn follow<T, R>(
    watch: Watch<T>,
    after: Version,
    read: impl Fn() -> R + Send + 'static,
    last: fn(&T) -> bool,
) -> impl Stream<Item = Result<T, Fault>> + Send
where
    T: Clone + Send + Sync + 'static,
    R: Future<Output = Result<(Version, T), Fault>> + Send,
{
    let beginning = Following { watch, told: after, unread: true, ended: false, read };
    try_unfold(beginning, move |mut following| async move {
        let next = following.next(last).await?;
        Ok(next.map(|state| (state, following)))
    })
}

struct Following<T, F> {
    watch: Watch<T>,
    told: Version,
    /// Whether the state has to be read before anything else is told.
    unread: bool,
    ended: bool,
    read: F,
}

impl<T: Clone, R: Future<Output = Result<(Version, T), Fault>>, F: Fn() -> R> Following<T, F> {
    async fn next(&mut self, last: fn(&T) -> bool) -> Result<Option<T>, Fault> {
        while !self.ended {
            let (version, state) = if self.unread {
                let present = (self.read)().await?;
                self.unread = false;
                present
            } else {
                match self.watch.news().await {
                    News::State(version, state) => (version, state),
                    News::Missed => {
                        self.unread = true;
                        continue;
                    }
                }
            };
            self.ended = last(&state);
            if version > self.told {
                self.told = version;
                return Ok(Some(state));
            }
        }
        Ok(None)
    }
}
