//! A tiny fifth service, counters, over the engine: it proves that the engine knows none of the other four.

/// The encoded `FileDescriptorSet` of the counter's protos.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// Package `counter`.
#[allow(missing_docs)]
pub mod counter {
    pub mod v1 {
        tonic::include_proto!("counter.v1");
    }
}
