//! Where a consumer believes that it is, and where the database says that its group is.

use std::collections::BTreeSet;

use diesel_async::AsyncPgConnection;

use super::{Consumer, Course};
use crate::{backoff::Backoff, command::Service, inbox::offsets};

impl<S: Service> Consumer<S> {
    /// Learns from the database how far others have moved partitions that were thought to be ours, unless the program ends first or
    /// the database is set back.
    pub(super) async fn adopt_offsets(&mut self, partitions: &BTreeSet<i32>) {
        let (group, topic) = self.positions.source();
        let named: Vec<i32> = partitions.iter().copied().collect();
        let mut backoff = Backoff::new();
        loop {
            let found = async {
                let conn = self.database.connect().await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(offsets::find(&conn, group, topic, &named).await?)
            };
            match found.await {
                Ok(found) => {
                    tracing::info!(group, ?found, "another has moved these offsets");
                    for partition in named {
                        // Or it was revoked meanwhile.
                        let Some(believed) = self.positions.next(partition) else { continue };
                        let next = found.get(&partition).map(|stored| stored.next);
                        self.compare(partition, believed, next);
                        if let Some(next) = next.filter(|_| self.course == Course::Onward) {
                            self.positions.set(partition, next);
                            self.metrics.next(partition, next);
                            // By another, who may not have waited for a flush.
                            self.unconfirmed = true;
                        }
                    }
                    return;
                }
                Err(error) => tracing::warn!(group, %error, "can't read offsets again yet"),
            }
            if self.writer.stop().is_cancelled() {
                self.course = Course::Ending;
                return;
            }
            backoff.wait(self.writer.stop()).await;
        }
    }

    /// Has the database flush what was not waited for, and say that it still has all of that: a crash may have taken some back,
    /// of partitions in which nothing comes any more. After a fault the next time will do.
    pub(super) async fn confirm(&mut self) {
        if !self.unconfirmed || self.course != Course::Onward {
            return;
        }
        let (group, topic) = self.positions.source();
        let held: Vec<(i32, i64)> = self.positions.all().collect();
        let partitions: Vec<i32> = held.iter().map(|(partition, _)| *partition).collect();
        let read = async |conn: &AsyncPgConnection| offsets::find(conn, group, topic, &partitions).await;
        if let Ok(found) = self.writer.read_flushed(read).await {
            self.unconfirmed = false;
            for (partition, believed) in held {
                self.compare(partition, believed, found.get(&partition).map(|stored| stored.next));
            }
        }
    }

    /// What the database says of a partition. If it has gone back, there is nothing to go on from.
    fn compare(&mut self, partition: i32, believed: i64, found: Option<i64>) {
        if found.is_none_or(|found| found < believed) {
            let group = self.subscription.group;
            tracing::warn!(
                group,
                partition,
                believed,
                ?found,
                "an offset in the database went back: it is read again from there"
            );
            self.metrics.set_back();
            self.course = Course::Anew;
        }
    }
}
