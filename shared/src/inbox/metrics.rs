//! What consumers tell of themselves.

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

/// Counters and gauges of the inbox, by group.
pub struct InboxMetrics {
    handled: Family<ByGroup, Counter>,
    passed_over: Family<ByGroup, Counter>,
    fenced: Family<ByGroup, Counter>,
    stopped: Family<ByPartition, Gauge>,
    next: Family<ByPartition, Gauge>,
}

impl InboxMetrics {
    /// Registers every family.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            handled: metrics.register("inbox_handled", "Messages whose effects are committed", Family::default()),
            passed_over: metrics.register("inbox_passed_over", "Messages that meant nothing here", Family::default()),
            fenced: metrics.register(
                "inbox_fenced",
                "Messages dropped because another consumer had moved the offset",
                Family::default(),
            ),
            stopped: metrics.register(
                "inbox_partition_stopped",
                "1 where a message can't be handled and stops its partition",
                Family::default(),
            ),
            next: metrics.register("inbox_next_offset", "The next offset to be handled", Family::default()),
        }
    }

    /// Makes a group's series appear before anything has happened.
    pub(super) fn introduce(&self, group: &'static str) {
        drop(self.handled.get_or_create(&ByGroup { group }));
        drop(self.passed_over.get_or_create(&ByGroup { group }));
        drop(self.fenced.get_or_create(&ByGroup { group }));
    }

    pub(super) fn handled(&self, group: &'static str, messages: u64) {
        self.handled.get_or_create(&ByGroup { group }).inc_by(messages);
    }

    pub(super) fn passed_over(&self, group: &'static str) {
        self.passed_over.get_or_create(&ByGroup { group }).inc();
    }

    pub(super) fn fenced(&self, group: &'static str) {
        self.fenced.get_or_create(&ByGroup { group }).inc();
    }

    pub(super) fn stopped(&self, group: &'static str, partition: i32, stopped: bool) {
        self.stopped.get_or_create(&ByPartition { group, partition }).set(i64::from(stopped));
    }

    pub(super) fn next(&self, group: &'static str, partition: i32, next: i64) {
        self.next.get_or_create(&ByPartition { group, partition }).set(next);
    }

    pub(super) fn forget(&self, group: &'static str, partition: i32) {
        self.stopped.remove(&ByPartition { group, partition });
        self.next.remove(&ByPartition { group, partition });
    }
}
