//! Deciding a batch, in memory: the pure middle of a transaction.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{Envelope, Message, Milestone, Service, WorkingSet};
use crate::telemetry::{Span, TraceContext};

/// An event to be told, within the trace it belongs to.
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    /// The span that made the message: its consumers' parent.
    pub(crate) trace: TraceContext,
}

/// What a batch is to tell, once it is committed.
#[derive(Default)]
pub(super) struct Effects {
    /// Others, by the outbox.
    pub(super) outgoing: Vec<Outgoing>,
    /// Operators.
    pub(super) reached: Vec<Milestone>,
}

/// What the rules say to one command.
pub(super) enum Verdict<S: Service> {
    /// Decided and applied; what it leads to has been added to the effects.
    Accepted {
        changed: bool,
    },
    Refused(S::Refusal),
    /// A bug in the rules, contained.
    Panicked(String),
}

/// Decides one command on the states in memory and applies what it leads to. On anything but acceptance nothing has
/// changed.
pub(super) fn decide_one<S: Service>(
    loaded: &mut S::Loaded,
    envelope: &Envelope<S::Command>,
    topic: &'static str,
    effects: &mut Effects,
) -> Verdict<S> {
    let (mut messages, mut reached) = (Vec::new(), Vec::new());
    // Unwind-safe: a state is put back only when everything has gone well.
    let decided = catch_unwind(AssertUnwindSafe(|| {
        let mut state = loaded.state(&envelope.command);
        let events = S::decide(&state, &envelope.command, envelope.now)?;
        for event in &events {
            state = S::apply(state, event);
            reached.extend(S::milestone(&state, event));
            if let Some(message) = S::publish(&state, event) {
                messages.push((message, home::<S>(&state, &envelope.trace)));
            }
        }
        Ok((state, !events.is_empty()))
    }));
    match decided {
        Ok(Ok((state, changed))) => {
            if changed {
                loaded.replace(&envelope.command, state);
            }
            let told = |(message, home)| outgoing(message, home, &envelope.trace, topic);
            effects.outgoing.extend(messages.into_iter().map(told));
            effects.reached.append(&mut reached);
            Verdict::Accepted { changed }
        }
        Ok(Err(refusal)) => Verdict::Refused(refusal),
        Err(panic) => Verdict::Panicked(message_of(&*panic)),
    }
}

/// The story's own trace, where the cause is of another.
fn home<S: Service>(state: &S::State, cause: &TraceContext) -> Option<TraceContext> {
    S::story(state).filter(|story| !story.same_trace(cause)).cloned()
}

fn outgoing(message: Message, home: Option<TraceContext>, cause: &TraceContext, topic: &'static str) -> Outgoing {
    let (parent, link) = match &home {
        Some(story) => (story, Some(cause)),
        None => (cause, None),
    };
    let span = Span::create(parent, topic, message.kind, &message.key);
    if let Some(cause) = link {
        span.link(cause);
    }
    Outgoing { message, trace: span.context().clone() }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
