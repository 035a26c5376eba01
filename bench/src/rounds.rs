//! Rounds: every measurement once, then all again, so that what drifts drifts for all. In: a rig and a plan. Out: what each
//! round gave.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use local::progress::say;

use crate::{
    measure::{Known, Measurement, Taken},
    rig::Rig,
    table::Quantity,
};

/// What a round gave, by measurement.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// All figures.
    pub figures: BTreeMap<Quantity, f64>,
    /// What each gave, with what is told of it.
    pub taken: Vec<(Measurement, Taken)>,
    /// What gave nothing, and why: it failed, or what it left behind did not pass its audit.
    pub failed: Vec<(Measurement, String)>,
}

/// Takes all rounds, and shows after each what there is by then. What fails has no figure in that round, and keeps no other
/// from being taken.
///
/// # Errors
///
/// It can't be shown.
pub(crate) async fn take(
    rig: &Rig,
    plan: &[Measurement],
    mut show: impl FnMut(&[Round]) -> Result<()>,
) -> Result<Vec<Round>> {
    let (mut rounds, mut known, begun): (Vec<Round>, _, _) = (Vec::new(), Known::default(), Instant::now());
    for number in 1..=rig.scale.rounds {
        let mut round = Round::default();
        for (nth, measurement) in plan.iter().enumerate() {
            say(format_args!(
                "round {number} of {}, {} of {}, after {:.0} min: {measurement:?}",
                rig.scale.rounds,
                nth + 1,
                plan.len(),
                begun.elapsed().as_secs_f64() / 60.0
            ));
            let taken = match measurement.take(rig, &known).await {
                Ok(taken) => taken,
                Err(error) => {
                    say(format_args!("    no figure: {error:?}"));
                    round.failed.push((*measurement, format!("{error:#}")));
                    continue;
                }
            };
            for (quantity, value) in &taken.figures {
                say(format_args!("    {quantity:?}: {value:.2}"));
            }
            known.learn(&taken);
            round.figures.extend(&taken.figures);
            round.taken.push((*measurement, taken));
        }
        rounds.push(round);
        show(&rounds)?;
    }
    Ok(rounds)
}
