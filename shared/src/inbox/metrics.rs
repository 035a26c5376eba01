//! What consumers tell of themselves, and what the database and the brokers say of how far they are.

use std::collections::HashMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::ops::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByGroup {
    group: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPartition {
    group: &'static str,
    partition: i32,
}

/// Counters and gauges of the inbox, by group and partition.
#[derive(Clone)]
pub struct InboxMetrics {
    handled: Family<ByGroup, Counter>,
    passed_over: Family<ByGroup, Counter>,
    fenced: Family<ByGroup, Counter>,
    set_back: Family<ByGroup, Counter>,
    assigned: Family<ByPartition, Gauge>,
    stopped: Family<ByPartition, Gauge>,
    next: Family<ByPartition, Gauge>,
    lag: Family<ByPartition, Gauge>,
}

impl InboxMetrics {
    /// Registers every family.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            handled: metrics.register(
                "inbox_handled",
                "Messages that are done with: their effects, if they had any, are committed",
                Family::default(),
            ),
            passed_over: metrics.register(
                "inbox_passed_over",
                "Messages that were read and meant nothing to this service",
                Family::default(),
            ),
            fenced: metrics.register(
                "inbox_fenced",
                "Messages not committed because another consumer had moved their partition's offset: looked at again",
                Family::default(),
            ),
            set_back: metrics.register(
                "inbox_set_back",
                "Offsets that went back in the database, or away: what lies between is read again",
                Family::default(),
            ),
            assigned: metrics.register(
                "inbox_partition_assigned",
                "1 where this process reads the partition",
                Family::default(),
            ),
            stopped: metrics.register(
                "inbox_partition_stopped",
                "1 where a message can't be handled and stops its partition, which this process reads",
                Family::default(),
            ),
            next: metrics.register(
                "inbox_next_offset",
                "The offset of the next message to be handled, by the database",
                Family::default(),
            ),
            lag: metrics.register(
                "inbox_lag_messages",
                "Messages on the topic that the group has not handled, by the database's offsets",
                Family::default(),
            ),
        }
    }

    /// The series of a group, which appear by this, before anything has happened.
    pub(super) fn group(&self, group: &'static str) -> GroupMetrics {
        let by = ByGroup { group };
        GroupMetrics {
            handled: self.handled.get_or_create_owned(&by),
            passed_over: self.passed_over.get_or_create_owned(&by),
            fenced: self.fenced.get_or_create_owned(&by),
            set_back: self.set_back.get_or_create_owned(&by),
            partitions: Partitions { group, families: self.clone(), known: HashMap::new() },
        }
    }

    /// The series of a group's partitions, by their numbers.
    pub(super) fn partitions(&self, group: &'static str) -> Partitions {
        Partitions { group, families: self.clone(), known: HashMap::new() }
    }
}

/// The series of one group.
pub(super) struct GroupMetrics {
    handled: Counter,
    pub(super) passed_over: Counter,
    fenced: Counter,
    set_back: Counter,
    partitions: Partitions,
}

impl GroupMetrics {
    pub(super) fn handled(&self, messages: u64) {
        self.handled.inc_by(messages);
    }

    pub(super) fn fenced(&self) {
        self.fenced.inc();
    }

    pub(super) fn set_back(&self) {
        self.set_back.inc();
    }

    pub(super) fn assigned(&mut self, partition: i32, next: i64) {
        let series = self.partitions.of(partition);
        series.assigned.set(1);
        series.next.set(next);
    }

    pub(super) fn stopped(&mut self, partition: i32, stopped: bool) {
        self.partitions.of(partition).stopped.set(i64::from(stopped));
    }

    pub(super) fn next(&mut self, partition: i32, next: i64) {
        self.partitions.of(partition).next.set(next);
    }

    pub(super) fn revoked(&mut self, partition: i32) {
        let series = self.partitions.of(partition);
        series.assigned.set(0);
        series.stopped.set(0);
    }
}

/// The series of a group's partitions, looked up once each.
pub(super) struct Partitions {
    group: &'static str,
    families: InboxMetrics,
    known: HashMap<i32, PartitionMetrics>,
}

impl Partitions {
    pub(super) fn of(&mut self, partition: i32) -> &PartitionMetrics {
        self.known.entry(partition).or_insert_with(|| {
            let by = ByPartition { group: self.group, partition };
            PartitionMetrics {
                assigned: self.families.assigned.get_or_create_owned(&by),
                stopped: self.families.stopped.get_or_create_owned(&by),
                next: self.families.next.get_or_create_owned(&by),
                lag: self.families.lag.get_or_create_owned(&by),
            }
        })
    }
}

/// The series of one partition.
pub(super) struct PartitionMetrics {
    assigned: Gauge,
    stopped: Gauge,
    pub(super) next: Gauge,
    pub(super) lag: Gauge,
}
