//! Who watches what.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use super::FeedMetrics;
use crate::{user::UserId, version::Version};

/// All watches of a process. Cheap to clone: all clones are one.
pub struct Feed<T>(Arc<Watches<T>>);

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Watches<T> {
    most: usize,
    most_per_user: usize,
    open: Mutex<Open<T>>,
    /// A watch has begun, perhaps the first.
    first: Notify,
    metrics: FeedMetrics,
}

struct Open<T> {
    keys: HashMap<Arc<str>, Watched<T>>,
    /// How many each user has; nobody who has none.
    users: HashMap<UserId, usize>,
    count: usize,
}

/// A key that somebody watches.
struct Watched<T> {
    slot: watch::Sender<Slot<T>>,
    /// Counted here, under the lock: a receiver still is one while the watch that held it has ended.
    watches: usize,
}

/// What a watch has yet to see: the newest state, and how often some may have been missed.
struct Slot<T> {
    newest: Option<(Version, T)>,
    gaps: u64,
}

/// One more watch would be more than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of everybody's together.
    #[error("too many watches are open")]
    InAll,
    /// Of this user's, who has to end one of their own first.
    #[error("too many watches of one user are open")]
    OfUser,
}

/// What a watch is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<T> {
    /// A state, which may be an old one.
    State(Version, T),
    /// States may have been missed: read the present one.
    Missed,
}

/// A watch of one key, as long as it is held.
pub struct Watch<T> {
    key: Arc<str>,
    user: UserId,
    slot: watch::Receiver<Slot<T>>,
    gaps: u64,
    feed: Feed<T>,
}

impl<T: Clone> Feed<T> {
    /// At most so many watches, and so many of each user.
    pub(crate) fn new(most: usize, most_per_user: usize, metrics: FeedMetrics) -> Self {
        let open = Mutex::new(Open { keys: HashMap::new(), users: HashMap::new(), count: 0 });
        Self(Arc::new(Watches { most, most_per_user, open, first: Notify::new(), metrics }))
    }

    /// Has a user watch a key from now on.
    ///
    /// # Errors
    ///
    /// As many watches are open as may be, of all or of this user.
    pub fn watch(&self, key: &str, user: &UserId) -> Result<Watch<T>, TooMany> {
        let mut open = self.open();
        if open.count >= self.0.most {
            return Err(TooMany::InAll);
        }
        let theirs = open.users.get(user).copied().unwrap_or_default();
        if theirs >= self.0.most_per_user {
            return Err(TooMany::OfUser);
        }
        open.users.insert(user.clone(), theirs + 1);
        open.count += 1;
        self.0.metrics.watching(open.count);
        let key = open.keys.get_key_value(key).map_or_else(|| key.into(), |(key, _)| key.clone());
        let watched = open
            .keys
            .entry(key.clone())
            .or_insert_with(|| Watched { slot: watch::Sender::new(Slot { newest: None, gaps: 0 }), watches: 0 });
        watched.watches += 1;
        let slot = watched.slot.subscribe();
        let gaps = slot.borrow().gaps;
        drop(open);
        self.0.first.notify_one();
        Ok(Watch { key, user: user.clone(), slot, gaps, feed: self.clone() })
    }

    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.open().count > 0
    }

    /// Waits until somebody watches.
    pub(super) async fn watched(&self) {
        while !self.is_watched() {
            self.0.first.notified().await;
        }
    }

    /// Whether somebody watches this key.
    pub(super) fn wants(&self, key: &str) -> bool {
        self.open().keys.contains_key(key)
    }

    /// Tells whoever watches this key of a state, unless a newer one is known.
    pub(super) fn tell(&self, key: &str, version: Version, state: T) {
        if let Some(watched) = self.open().keys.get(key) {
            watched.slot.send_if_modified(|slot| {
                let newer = slot.newest.as_ref().is_none_or(|(known, _)| *known < version);
                if newer {
                    slot.newest = Some((version, state));
                    self.0.metrics.passed();
                }
                newer
            });
        }
    }

    /// Tells everyone that they may have missed something.
    pub(super) fn missed(&self) {
        self.0.metrics.gap();
        self.open().keys.values().for_each(|watched| watched.slot.send_modify(|slot| slot.gaps += 1));
    }
}

impl<T> Feed<T> {
    fn open(&self) -> MutexGuard<'_, Open<T>> {
        // Whole at any time: nothing in here panics half-way.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Watch<T> {
    /// The next news: waits for some. Of several states only the newest is told. Loses nothing when it is dropped.
    pub async fn news(&mut self) -> News<T> {
        loop {
            // The sender lives as long as there is a watch.
            if self.slot.changed().await.is_err() {
                return std::future::pending().await;
            }
            let slot = self.slot.borrow_and_update();
            if self.gaps != slot.gaps {
                // Whoever reads the state now finds all that this slot could tell.
                self.gaps = slot.gaps;
                return News::Missed;
            }
            if let Some((version, state)) = &slot.newest {
                return News::State(*version, state.clone());
            }
        }
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        let mut open = self.feed.open();
        open.count = open.count.saturating_sub(1);
        self.feed.0.metrics.watching(open.count);
        if let Some(theirs) = open.users.get_mut(&self.user) {
            *theirs -= 1;
            if *theirs == 0 {
                open.users.remove(&self.user);
            }
        }
        if let Some(watched) = open.keys.get_mut(&self.key) {
            watched.watches -= 1;
            if watched.watches == 0 {
                open.keys.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Metrics;

    fn feed(most: usize, most_per_user: usize) -> Feed<&'static str> {
        Feed::new(most, most_per_user, FeedMetrics::new(&Metrics::new()))
    }

    fn alice() -> UserId {
        UserId::from_stored("alice")
    }

    const fn version(number: i64) -> Version {
        Version::from_i64(number)
    }

    #[tokio::test]
    async fn a_slow_reader_finds_the_newest_state_whatever_was_repeated_behind_it() {
        let feed = feed(10, 10);
        let mut watch = feed.watch("a", &alice()).unwrap();
        feed.tell("a", version(2), "two");
        feed.tell("a", version(3), "three");
        feed.tell("a", version(2), "two");
        feed.tell("b", version(9), "another's");
        assert_eq!(watch.news().await, News::State(version(3), "three"));
    }

    #[tokio::test]
    async fn a_gap_is_told_before_any_state_and_once() {
        let feed = feed(10, 10);
        let mut watch = feed.watch("a", &alice()).unwrap();
        feed.missed();
        feed.tell("a", version(2), "two");
        assert_eq!(watch.news().await, News::Missed);
        feed.tell("a", version(3), "three");
        assert_eq!(watch.news().await, News::State(version(3), "three"));
    }

    #[tokio::test]
    async fn watches_are_bounded_and_leave_nothing_behind() {
        let (feed, alice, bob) = (feed(3, 2), alice(), UserId::from_stored("bob"));
        let (one, two) = (feed.watch("a", &alice).unwrap(), feed.watch("a", &alice).unwrap());
        assert_eq!(feed.watch("b", &alice).err(), Some(TooMany::OfUser));
        let three = feed.watch("b", &bob).unwrap();
        assert_eq!(feed.watch("b", &bob).err(), Some(TooMany::InAll));
        drop((one, three));
        assert!(feed.wants("a"), "another watches it");
        drop(two);
        assert!(!feed.wants("a") && !feed.is_watched() && feed.open().users.is_empty());
        feed.watch("b", &alice).unwrap();
    }

    #[test]
    fn watches_of_one_key_that_end_at_the_same_time_leave_nothing_behind() {
        const TOGETHER: usize = 4;
        let (feed, alice) = (feed(TOGETHER, TOGETHER), alice());
        for _ in 0..1000 {
            let barrier = std::sync::Barrier::new(TOGETHER);
            std::thread::scope(|threads| {
                for _ in 0..TOGETHER {
                    let watch = feed.watch("a", &alice).unwrap();
                    let barrier = &barrier;
                    threads.spawn(move || {
                        barrier.wait();
                        drop(watch);
                    });
                }
            });
            assert!(!feed.wants("a"));
        }
    }
}
