//! The services' contracts: every message, service and event that clients and other services see, compiled from the
//! protos beside this file.
//!
//! Nothing here decides anything. Only adapters (a service's `grpc` and `events`) and clients use it.

pub mod codec;
mod money;

/// The encoded `FileDescriptorSet` of every proto of the project and of the error details that answers carry.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

// The generated code refers to its neighbours by their place in this tree.

/// Package `ticketing.type`: what all services share.
#[allow(missing_docs)]
pub mod r#type {
    pub mod v1 {
        tonic::include_proto!("ticketing.r#type.v1");
    }
}

/// Package `ticketing.tickets`.
#[allow(missing_docs)]
pub mod tickets {
    pub mod v1 {
        tonic::include_proto!("ticketing.tickets.v1");
    }
}

/// Package `ticketing.orders`.
#[allow(missing_docs)]
pub mod orders {
    pub mod v1 {
        tonic::include_proto!("ticketing.orders.v1");
    }
}

/// Package `ticketing.payments`.
#[allow(missing_docs)]
pub mod payments {
    pub mod v1 {
        tonic::include_proto!("ticketing.payments.v1");
    }
}

/// Package `ticketing.expiration`.
#[allow(missing_docs)]
pub mod expiration {
    pub mod v1 {
        tonic::include_proto!("ticketing.expiration.v1");
    }
}
