//! A consumer's partitions, one by one: they come and go, wait aside, stop, and go on.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
};

use super::{Client, Consumer};
use crate::{
    command::Service,
    inbox::{Subscription, poller::Assignment},
};

impl<S: Service> Consumer<S> {
    pub(super) fn assigned(&mut self, client: &Client<S::Command>, assignments: Vec<Assignment>) {
        let group = self.subscription.group;
        self.unconfirmed = true;
        for Assignment { partition, next, stopped } in assignments {
            tracing::info!(group, partition, next, "assigned");
            self.positions.set(partition, next);
            self.forget_passed(partition);
            self.metrics.assigned(partition, next);
            match stopped {
                None => {
                    self.stopped.remove(&partition);
                    self.metrics.stopped(partition, false);
                }
                // It was paused as it was assigned.
                Some(why) => {
                    self.stopped_at(partition, next, &why);
                    self.paused.insert(partition);
                }
            }
        }
        self.resume(client);
    }

    pub(super) fn revoked(&mut self, client: &Client<S::Command>, partitions: &[i32]) {
        self.commit_to_kafka(client);
        for partition in partitions {
            tracing::info!(group = self.subscription.group, partition, "revoked");
            self.let_go(*partition);
        }
    }

    /// A partition is ours no longer, nor is what was known of it.
    pub(super) fn let_go(&mut self, partition: i32) {
        self.positions.remove(partition);
        self.forget_passed(partition);
        self.stopped.remove(&partition);
        self.held.remove(&partition);
        self.doomed.remove(&partition);
        self.metrics.revoked(partition);
    }

    /// What was passed over is read again by whoever has the partition now.
    fn forget_passed(&mut self, partition: i32) {
        self.passed.retain(|unit| unit.at.is_none_or(|at| at.partition != partition));
    }

    /// Tries again what waits, each partition by itself: in one batch, what one of them meets could be laid to another's door
    /// again and again. The first that still meets a lock is the last for now, for it has cost all others their time; the next time
    /// it is the turn of those behind it.
    pub(super) async fn retry_held(&mut self, client: &Client<S::Command>) {
        let mut partitions: Vec<i32> = self.held.keys().copied().collect();
        let tried = partitions.partition_point(|partition| Some(*partition) <= self.tried);
        partitions.rotate_left(tried);
        for partition in partitions {
            let Some(waiting) = self.held.remove(&partition) else { continue };
            self.tried = Some(partition);
            self.execute(client, waiting).await;
            if self.held.contains_key(&partition) {
                break;
            }
            if let Some((at, why)) = self.doomed.remove(&partition)
                && self.goes_on_to(at)
            {
                self.stop(client, partition, at.offset, &why);
            }
        }
        self.resume(client);
    }

    /// Has librdkafka go on with what is ours, and neither held nor stopped any more.
    fn resume(&mut self, client: &Client<S::Command>) {
        let ours = self.positions.all().map(|(partition, _)| partition);
        let goes_on = |partition: &i32| !self.held.contains_key(partition) && !self.stopped.contains(partition);
        let wanted: Vec<i32> = ours.filter(|partition| self.paused.contains(partition)).filter(goes_on).collect();
        for partition in wanted {
            let list = self.list([partition]);
            match client.resume(&list).and_then(|()| each(&list)) {
                Ok(()) => {
                    self.paused.remove(&partition);
                }
                // Or nothing more of it would ever come. It is tried again as long as the partition is ours.
                Err(error) => tracing::warn!(group = self.subscription.group, partition, %error, "can't resume yet"),
            }
        }
    }

    /// Nothing more of this partition, until an operator has seen to it.
    pub(super) fn stop(&mut self, client: &Client<S::Command>, partition: i32, offset: i64, why: &str) {
        self.stopped_at(partition, offset, why);
        self.pause(client, partition);
    }

    fn stopped_at(&mut self, partition: i32, offset: i64, why: &str) {
        let Subscription { group, topic, .. } = self.subscription;
        tracing::error!(group, topic, partition, offset, why, "a message can't be handled: its partition stops here");
        self.metrics.stopped(partition, true);
        self.stopped.insert(partition);
        self.held.remove(&partition);
        self.doomed.remove(&partition);
    }

    pub(super) fn pause(&mut self, client: &Client<S::Command>, partition: i32) {
        let list = self.list([partition]);
        if let Err(error) = client.pause(&list).and_then(|()| each(&list)) {
            // Not assigned any more, for one: then nothing of it comes any more either.
            tracing::warn!(group = self.subscription.group, partition, %error, "can't pause");
        }
        self.paused.insert(partition);
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.kafka.topic(self.subscription.topic), partition);
        }
        list
    }

    pub(super) fn commit_to_kafka(&self, client: &Client<S::Command>) {
        let mut list = self.list(self.positions.all().map(|(partition, _)| partition));
        for (partition, next) in self.positions.all() {
            let _ =
                list.set_partition_offset(&self.kafka.topic(self.subscription.topic), partition, Offset::Offset(next));
        }
        if list.count() > 0
            && let Err(error) = client.commit(&list, CommitMode::Async)
        {
            tracing::debug!(group = self.subscription.group, %error, "Kafka was not told of the offsets");
        }
    }
}

/// What became of each partition of a list: a call about many goes well if it fails for all of them.
fn each(list: &TopicPartitionList) -> KafkaResult<()> {
    list.elements().iter().try_for_each(|element| element.error())
}
