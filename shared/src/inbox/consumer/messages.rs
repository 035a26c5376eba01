//! What a consumer does with the messages that it is given, in their order: through the write path, or, where one can't be
//! handled, aside or no further.

use std::collections::BTreeSet;

use super::{Client, Consumer, Course};
use crate::{
    command::{At, Patience, Service, Unit, UnitOutcome},
    inbox::poller::Decoded,
    telemetry::Span,
};

/// A message that is not done yet.
pub(super) struct Waiting<C> {
    unit: Unit<C>,
    /// Open until the effects are committed; none where there are no effects.
    span: Option<Span>,
}

impl<C> Waiting<C> {
    fn new(unit: Unit<C>, span: Span) -> Self {
        let span = (!unit.commands.is_empty()).then_some(span);
        Self { unit, span }
    }

    /// Does something in the message's trace, so that logs of it name that.
    fn within(&self, what: impl FnOnce()) {
        match &self.span {
            Some(span) => span.within(what),
            None => what(),
        }
    }
}

/// What one writer does, and the spans of that.
struct Share<C> {
    units: Vec<Unit<C>>,
    spans: Vec<Option<Span>>,
}

impl<C> Share<C> {
    fn with_capacity(most: usize) -> Self {
        Self { units: Vec::with_capacity(most), spans: Vec::with_capacity(most) }
    }
}

impl<S: Service> Consumer<S> {
    /// A batch through the write path. What waits aside has its messages queue behind it. Positions stand still until they are
    /// written.
    pub(super) async fn handle(&mut self, client: &Client<S::Command>, messages: Vec<Decoded<S::Command>>) {
        let mut waiting = Vec::with_capacity(messages.len());
        for message in messages {
            let Some(at) = message.at().filter(|at| self.goes_on_to(*at)) else { continue };
            match (message.unit, self.held.get_mut(&at.partition)) {
                (Ok(unit), None) => waiting.push(Waiting::new(unit, message.span)),
                (Ok(unit), Some(held)) => held.push(Waiting::new(unit, message.span)),
                (Err((_, why)), held) => {
                    message.span.error("UNDECODABLE");
                    // What came before it is still good, and is done first; from it on nothing is.
                    if held.is_none() {
                        self.execute(client, std::mem::take(&mut waiting)).await;
                    }
                    if self.held.contains_key(&at.partition) {
                        self.doomed.insert(at.partition, (at, why));
                    } else if self.goes_on_to(at) {
                        message.span.within(|| self.stop(client, at.partition, at.offset, &why));
                    }
                }
            }
        }
        self.execute(client, waiting).await;
    }

    /// Whether a message is to be handled here, after all that came before it.
    pub(super) fn goes_on_to(&self, at: At) -> bool {
        let at_end = self.stopped.contains(&at.partition) || self.doomed.contains_key(&at.partition);
        !at_end && self.course == Course::Onward && self.positions.wants(at)
    }

    /// What has effects is done at once. What has none can wait to go along, for a transaction that moves nothing but
    /// offsets costs as much as another: if it is lost meanwhile, it is read and passed over again.
    pub(super) async fn execute(&mut self, client: &Client<S::Command>, waiting: Vec<Waiting<S::Command>>) {
        if waiting.iter().any(|waiting| !waiting.unit.commands.is_empty()) {
            self.write_out(client, waiting).await;
        } else {
            self.passed.extend(waiting.into_iter().map(|waiting| waiting.unit));
            if self.passed.len() >= self.config.batch {
                self.write_out(client, Vec::new()).await;
            }
        }
    }

    /// Does what it can, after what was passed over; stops or holds the partitions of what it can't.
    pub(super) async fn write_out(&mut self, client: &Client<S::Command>, mut waiting: Vec<Waiting<S::Command>>) {
        while self.course == Course::Onward && !(self.passed.is_empty() && waiting.is_empty()) {
            let mut fenced = BTreeSet::new();
            let mut handled = 0;
            for (share, outcomes) in self.write(std::mem::take(&mut waiting)).await {
                for ((unit, span), outcome) in share.units.into_iter().zip(share.spans).zip(outcomes) {
                    let Some(at) = unit.at else { continue };
                    match outcome {
                        UnitOutcome::Done(_) => {
                            if let Some(span) = &span {
                                unit.commands.iter().for_each(|envelope| envelope.transaction.link(span));
                            }
                            handled += 1;
                        }
                        outcome => {
                            if matches!(outcome, UnitOutcome::Fenced) {
                                fenced.insert(at.partition);
                            }
                            waiting.extend(self.not_done(client, at, Waiting { unit, span }, outcome));
                            if self.course != Course::Onward {
                                return;
                            }
                        }
                    }
                }
            }
            self.metrics.handled(handled);
            for (partition, next) in self.positions.all() {
                self.metrics.next(partition, next);
            }
            if !fenced.is_empty() {
                self.adopt_offsets(&fenced).await;
            }
            // Somebody else has done some of them by now. What is left lies before a message that is to stop its partition, if
            // there is one.
            let still = |at: At| !self.stopped.contains(&at.partition) && self.positions.wants(at);
            waiting.retain(|waiting| waiting.unit.at.is_some_and(still));
        }
    }

    /// Has both writers do what was passed over, and then this, each what is of its partitions: their shares, and what became of
    /// these.
    async fn write(&mut self, waiting: Vec<Waiting<S::Command>>) -> [(Share<S::Command>, Vec<UnitOutcome<S>>); 2] {
        let passed = self.passed.drain(..).map(|unit| Waiting { unit, span: None });
        let all = passed.len() + waiting.len();
        let (mut first, mut second) = (Share::with_capacity(all), Share::with_capacity(all));
        for Waiting { unit, span } in passed.chain(waiting) {
            let seconds = unit.at.is_some_and(|at| self.second_takes.contains(&at.partition));
            let share = if seconds { &mut second } else { &mut first };
            share.units.push(unit);
            share.spans.push(span);
        }
        let mut positions = self.positions.split_off(&self.second_takes);
        let most = self.config.batch;
        let (first_outcomes, second_outcomes) = tokio::join!(
            self.writer.execute(&first.units, most, Some(&mut self.positions), Patience::Member, false),
            self.second.execute(&second.units, most, Some(&mut positions), Patience::Member, false),
        );
        self.positions.append(positions);
        self.unconfirmed |= self.writer.take_unflushed() | self.second.take_unflushed();
        [(first, first_outcomes), (second, second_outcomes)]
    }

    /// Acts on why a message was not done. If it is to be tried again at once, it is returned.
    fn not_done(
        &mut self,
        client: &Client<S::Command>,
        at: At,
        waiting: Waiting<S::Command>,
        outcome: UnitOutcome<S>,
    ) -> Option<Waiting<S::Command>> {
        match outcome {
            UnitOutcome::Fenced => {
                self.metrics.fenced();
                Some(waiting)
            }
            UnitOutcome::Locked => {
                if let Some(left_out) = self.locked.happens(std::time::Instant::now()) {
                    let group = self.subscription.group;
                    waiting
                        .within(|| tracing::warn!(group, ?at, left_out, "waits aside for a lock that another holds"));
                }
                self.pause(client, at.partition);
                self.held.entry(at.partition).or_default().push(waiting);
                None
            }
            // Behind something held: in its order. Behind something that stopped its partition: dropped, to be read again. Behind
            // something fenced: tried again after it, or it would be skipped.
            UnitOutcome::Behind => match self.held.get_mut(&at.partition) {
                Some(held) => {
                    held.push(waiting);
                    None
                }
                None => (!self.stopped.contains(&at.partition)).then_some(waiting),
            },
            outcome @ (UnitOutcome::Refused(_) | UnitOutcome::Impossible(_)) => {
                let error = if matches!(outcome, UnitOutcome::Refused(_)) { "REFUSED" } else { "IMPOSSIBLE" };
                if let Some(span) = &waiting.span {
                    span.error(error);
                }
                waiting.within(|| self.stop(client, at.partition, at.offset, &outcome.why()));
                None
            }
            // The offsets say where to go on.
            UnitOutcome::Unavailable | UnitOutcome::Unknown if self.writer.stop().is_cancelled() => {
                self.course = Course::Ending;
                None
            }
            UnitOutcome::Unavailable | UnitOutcome::Unknown => {
                let group = self.subscription.group;
                tracing::warn!(group, "leaves its group until the database can be reached: others may reach it");
                self.course = Course::Anew;
                None
            }
            // It was done, or is a caller's: only their commands have request ids.
            UnitOutcome::Done(_) | UnitOutcome::Before(_) | UnitOutcome::RequestIdReused | UnitOutcome::Again => None,
        }
    }
}
