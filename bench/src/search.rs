//! The highest rate that a system holds, found by trying. In: a system, its buyers, and a guess. Out: the best try, with
//! what it cost.

use std::time::Duration;

use anyhow::{Context, Result};
use local::progress::say;

use crate::{
    buyers::{Buyers, Run},
    meter::{self, Cost, Meter},
    rig::System,
};

/// A rate that held.
#[derive(Debug)]
pub(crate) struct Best {
    /// How it went.
    pub run: Run,
    /// What it took.
    pub cost: Cost,
}

/// Between the highest rate that held and the lowest that didn't lies no more than this.
const NEAR: f64 = 1.06;
/// The first step away from the guess; each further one is larger.
const STEP: f64 = 1.1;
/// What a fresh system is warmed up by, as a share of the guess: its groups still share out their partitions, and its caches are
/// cold.
const WARM: f64 = 0.5;
/// A search that hasn't come to an end by then began at a wrong guess.
const TRIES: usize = 24;

/// Searches from a guess: away from it in growing steps until one rate held and one didn't, then between them. A rate at which
/// spans are lost does not hold, for not all that was to be done was.
///
/// # Errors
///
/// No rate holds, or the system can't be asked.
pub(crate) async fn highest(system: &System<'_>, buyers: &Buyers, guess: f64, lasts: Duration) -> Result<Best> {
    let (mut best, mut too_high): (Option<Best>, Option<f64>) = (None, None);
    let (mut rate, mut step) = (guess, STEP);
    buyers.run(guess * WARM, lasts).await?;
    buyers.rest().await?;
    for _ in 0..TRIES {
        let (before, lost) = (Meter::read(system).await?, meter::lost_spans(system).await?);
        let run = buyers.run(rate, lasts).await?;
        let lost = meter::lost_spans(system).await? - lost;
        if lost > 0.0 {
            say(format_args!("    {lost:.0} spans were lost: {rate:.0}/s does not hold"));
        }
        if run.holds() && lost == 0.0 {
            let cost = before.until(&Meter::read(system).await?, run.offered.answered);
            best = Some(Best { run, cost });
        } else {
            too_high = Some(rate);
            buyers.rest().await?;
        }
        rate = match (best.as_ref().map(|best| best.run.rate), too_high) {
            (Some(low), Some(high)) if high / low <= NEAR => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * step,
            (None, _) => rate / step,
        };
        step *= STEP;
    }
    best.context("no rate holds")
}
