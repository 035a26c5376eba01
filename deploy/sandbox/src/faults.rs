//! The switches that make the sandbox misbehave, as providers do. In: what is to go wrong, how often or how long, and for
//! which order. Out: what goes wrong with the request at hand. Kept in memory: a restart ends them all.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;

/// A switch that lasts longer was a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a switch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /v1/payment_intents`.
    Charge,
    /// `POST /v1/refunds`.
    Refund,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The money moves, nothing is ever answered, the connection is held.
    ChargeThenHang,
    /// The answer's bytes are written twice.
    AnswerTwice,
    /// A 500 before anything has begun; not kept.
    #[serde(rename = "error_500")]
    Error500,
    /// The money moves, and a 500 is the answer that is given and kept.
    #[serde(rename = "execute_then_500")]
    ExecuteThen500,
    /// A 429 with `Retry-After: 1`; nothing has begun.
    RateLimited,
    /// A 400 for want of balance; nothing has begun, and it may be otherwise later. Of refunds only.
    RefuseRefund,
    /// The money moves, and the connection is cut in the middle of the answer's bytes.
    DropMidAnswer,
}

/// A switch, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    operation: Operation,
    fault: Fault,
    times: Option<u32>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    order_id: Option<String>,
}

/// A switch that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switch {
    operation: Operation,
    fault: Fault,
    /// How often it will still happen; without it, until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Only to requests whose metadata have this `order_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
}

impl Switch {
    /// A switch as it was asked for.
    ///
    /// # Errors
    ///
    /// What makes no sense about it.
    pub fn new(request: SwitchRequest, now: Timestamp) -> Result<Self, String> {
        let SwitchRequest { operation, fault, times, lasting, order_id } = request;
        if fault == Fault::RefuseRefund && operation != Operation::Refund {
            return Err("refuse_refund is for refunds".to_owned());
        }
        let (times, until) = match (times, lasting) {
            (None, None) => (Some(1), None),
            (Some(0), None) => return Err("times must be at least 1".to_owned()),
            (Some(times), None) => (Some(times), None),
            (None, Some(lasting)) => {
                let lasting = humantime::parse_duration(&lasting).ok().filter(|lasting| *lasting <= LONGEST);
                let lasting = lasting.ok_or("for must be a time of a day at most, like 3s")?;
                (None, Some(now + lasting))
            }
            (Some(_), Some(_)) => return Err("times or for, not both".to_owned()),
        };
        Ok(Self { operation, fault, times, until, order_id })
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.times == Some(0) || self.until.is_some_and(|until| until <= now)
    }

    fn concerns(&self, operation: Operation, order_id: Option<&str>) -> bool {
        self.operation == operation && (self.order_id.is_none() || self.order_id.as_deref() == order_id)
    }
}

/// The switches that are on. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Switch>>>);

impl Faults {
    /// Turns one on.
    pub fn add(&self, switch: Switch) {
        self.switches().push(switch);
    }

    /// Turns all off.
    pub fn clear(&self) {
        self.switches().clear();
    }

    /// Those that are on.
    pub fn list(&self, now: Timestamp) -> Vec<Switch> {
        let mut switches = self.switches();
        switches.retain(|switch| !switch.is_over(now));
        switches.clone()
    }

    /// Whether none is on, which costs nothing to know.
    pub fn is_empty(&self) -> bool {
        self.switches().is_empty()
    }

    /// What goes wrong with this request: by the first switch that concerns it, which has one time less then.
    pub fn take(&self, operation: Operation, order_id: Option<&str>, now: Timestamp) -> Option<Fault> {
        let mut switches = self.switches();
        switches.retain(|switch| !switch.is_over(now));
        let switch = switches.iter_mut().find(|switch| switch.concerns(operation, order_id))?;
        switch.times = switch.times.map(|times| times.saturating_sub(1));
        Some(switch.fault)
    }

    fn switches(&self) -> MutexGuard<'_, Vec<Switch>> {
        // Whole at any time: no step leaves it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(json: &str) -> Result<Switch, String> {
        let request = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Switch::new(request, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_switch_is_on_as_often_or_as_long_as_was_asked() {
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let faults = Faults::default();
        faults.add(switch(r#"{"operation":"charge","fault":"error_500","times":2,"order_id":"1"}"#).unwrap());
        faults.add(switch(r#"{"operation":"charge","fault":"rate_limited","for":"3s"}"#).unwrap());
        faults.add(switch(r#"{"operation":"refund","fault":"refuse_refund"}"#).unwrap());

        let taken = |operation, order_id, seconds| faults.take(operation, order_id, at(seconds));
        assert_eq!(taken(Operation::Charge, Some("2"), 0), Some(Fault::RateLimited));
        assert_eq!(taken(Operation::Charge, Some("1"), 0), Some(Fault::Error500));
        assert_eq!(taken(Operation::Charge, Some("1"), 9), Some(Fault::Error500));
        assert_eq!(taken(Operation::Charge, Some("1"), 9), None);
        assert_eq!(taken(Operation::Refund, None, 9), Some(Fault::RefuseRefund));
        assert_eq!(taken(Operation::Refund, None, 9), None);
        assert_eq!(faults.list(at(9)), []);
    }

    #[test]
    fn a_switch_that_makes_no_sense_is_refused() {
        for json in [
            r#"{"operation":"charge","fault":"refuse_refund"}"#,
            r#"{"operation":"charge","fault":"unheard"}"#,
            r#"{"operation":"charge","fault":"error_500","times":0}"#,
            r#"{"operation":"charge","fault":"error_500","times":1,"for":"3s"}"#,
            r#"{"operation":"charge","fault":"error_500","for":"soon"}"#,
            r#"{"operation":"charge","fault":"error_500","order":"1"}"#,
            r#"{"fault":"error_500"}"#,
        ] {
            assert!(switch(json).is_err(), "{json}");
        }
    }
}
