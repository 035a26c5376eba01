//! Events in and out: what this service makes of what others ask, and how it tells others of its own. Knows protobuf,
//! and decides nothing.

use std::time::Duration;

use prost::Message as _;
use shared::{
    command::{Message, Milestone, Milestones, Publish},
    inbox::{Delivery, Undecodable},
    version::Version,
    wire,
};

use crate::{
    counter::v1::{self as api, CounterCommand, CounterEvent, counter_command::Change as Asked, counter_event::Change},
    domain::{Command, Counter, Counters, Event},
};

/// A payload that no code is prepared for: reading it panics.
pub const UNREADABLE: &[u8] = b"panic";

/// A payload that reading panics over with something that can't even be dropped: no code survives that.
pub const DEADLY: &[u8] = b"panic and die";

struct Deadly;

impl Drop for Deadly {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "asked to");
    }
}

/// What others ask of a counter.
pub fn react_to_commands(delivery: &Delivery<'_>) -> Result<Vec<Command>, Undecodable> {
    assert!(delivery.payload != UNREADABLE, "asked to");
    #[allow(clippy::panic, reason = "a trap")]
    if delivery.payload == DEADLY {
        std::panic::panic_any(Deadly);
    }
    let asked = CounterCommand::decode(delivery.payload)?;
    let id = wire::id("counter_id", &asked.counter_id)?;
    Ok(match asked.change {
        Some(Asked::Add(add)) => vec![Command::Add { id, by: add.by }],
        None => vec![],
    })
}

/// What a message of this service's own tells of a counter, for those who watch it.
pub fn read_own(delivery: &Delivery<'_>) -> Result<Option<(Version, api::Counter)>, Undecodable> {
    let event = CounterEvent::decode(delivery.payload)?;
    Ok(event.counter.map(|counter| (Version::from_i64(event.version), counter)))
}

impl Publish for Counters {
    fn publish(state: &Option<Counter>, event: &Event) -> Option<Message> {
        let counter = state.as_ref()?;
        let (kind, change) = match event {
            Event::Created(_) => ("counter.created", Change::Created(api::CounterCreated {})),
            Event::Incremented { by } => {
                ("counter.incremented", Change::Incremented(api::CounterIncremented { by: *by }))
            }
            Event::Reset => ("counter.reset", Change::Reset(api::CounterReset {})),
        };
        let payload = CounterEvent {
            counter_id: counter.id.to_string(),
            version: counter.version.as_i64(),
            counter: Some(counter_message(counter)),
            change: Some(change),
        };
        Some(Message { key: counter.id.to_string(), kind, payload: payload.encode_to_vec() })
    }

    const MILESTONES: Option<Milestones> = Some(Milestones {
        metric: "counter_life_seconds",
        help: "From a counter's beginning to what became of it; nobody looks at the time",
        outcomes: &["created", "incremented", "reset"],
    });

    fn milestone(_: &Option<Counter>, event: &Event) -> Option<Milestone> {
        let outcome = match event {
            Event::Created(_) => "created",
            Event::Reset => "reset",
            Event::Incremented { .. } => "incremented",
        };
        Some(Milestone { outcome, after: Duration::ZERO })
    }
}

/// A counter as everyone sees it.
pub fn counter_message(counter: &Counter) -> api::Counter {
    api::Counter {
        id: counter.id.to_string(),
        owner: counter.owner.to_string(),
        title: counter.title.clone(),
        value: counter.value,
        limit: counter.limit,
        version: counter.version.as_i64(),
    }
}
