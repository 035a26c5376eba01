//! The report: the table, how it was come by, and pictures. In: rounds. Out: `report.md`, `report.json` and SVGs in a folder.

mod machine;
mod markdown;
mod plots;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

pub(crate) use self::machine::Machine;
use crate::{
    rounds::Round,
    scale::Scale,
    table::{ROWS, Reach, Row},
};

/// A row, filled.
#[derive(Debug, Serialize)]
pub(crate) struct Filled {
    /// Its id.
    pub id: &'static str,
    /// The median of the rounds' ratios; of its figures, where there is no yardstick.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// What it is to reach.
    pub reach: String,
    /// Whether the median does.
    pub reached: Option<bool>,
    /// The same in words, and whether all rounds agree.
    pub verdict: Option<String>,
    /// The median of our figures.
    pub ours: f64,
    /// The median of the yardstick's.
    pub yardstick: Option<f64>,
    /// What both are counted in.
    pub unit: String,
    /// Every round's ratio.
    pub rounds: Vec<f64>,
    #[serde(skip)]
    pub(crate) row: &'static Row,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    /// What it ran on.
    pub machine: &'a Machine,
    /// Sizes and times.
    pub scale: Scale,
    /// The table.
    pub ratios: Vec<Filled>,
    #[serde(skip)]
    pub(crate) rounds: &'a [Round],
    /// Names of the flame graphs beside it.
    pub flames: &'a [String],
}

impl<'a> Report<'a> {
    /// Of these rounds.
    pub(crate) fn new(machine: &'a Machine, scale: Scale, rounds: &'a [Round], flames: &'a [String]) -> Self {
        let ratios = ROWS.iter().filter_map(|row| filled(row, rounds)).collect();
        Self { machine, scale, ratios, rounds, flames }
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// The folder can't be written to.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text).with_context(|| format!("writing {name} to {}", dir.display()))
        };
        write("report.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("report.md", markdown::page(self))?;
        plots::ratios(&dir.join("ratios.svg"), &self.ratios)?;
        plots::cpu(&dir.join("cpu.svg"), self.rounds)
    }

    /// The table, as people read it.
    pub(crate) fn table(&self) -> String {
        markdown::table(&self.ratios, self.rounds.len())
    }
}

/// None, if no round has what it needs.
fn filled(row: &'static Row, rounds: &[Round]) -> Option<Filled> {
    let of = |round: &Round| {
        let ours = *round.figures.get(&row.ours)?;
        let yardstick = row.yardstick.map(|yardstick| round.figures.get(&yardstick).copied());
        match yardstick {
            Some(None) => None,
            Some(Some(yardstick)) => Some((ours, Some(yardstick), ours / yardstick)),
            None => Some((ours, None, ours)),
        }
    };
    let taken: Vec<_> = rounds.iter().filter_map(of).collect();
    let ratios: Vec<_> = taken.iter().map(|(.., ratio)| *ratio).collect();
    let median_ratio = median(ratios.clone())?;
    Some(Filled {
        id: row.id,
        median: median_ratio,
        min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        reach: row.reach.to_string(),
        reached: row.reach.met(median_ratio),
        verdict: verdict(row.reach, median_ratio, &ratios),
        ours: median(taken.iter().map(|(ours, ..)| *ours).collect())?,
        yardstick: median(taken.iter().filter_map(|(_, yardstick, _)| *yardstick).collect()),
        unit: row.unit.to_string(),
        rounds: ratios,
        row,
    })
}

/// By the median, for a row that is to reach something.
fn verdict(reach: Reach, median: f64, ratios: &[f64]) -> Option<String> {
    let reached = reach.met(median)?;
    let word = if reached { "reached" } else { "short" };
    let agreed = ratios.iter().all(|ratio| reach.met(*ratio) == Some(reached));
    Some(if agreed { word.to_owned() } else { format!("{word} (not in every round)") })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    let upper = values.len() / 2;
    Some(values[middle].midpoint(values[upper]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Quantity;

    fn round(figures: &[(Quantity, f64)]) -> Round {
        Round { figures: figures.iter().copied().collect(), ..Round::default() }
    }

    #[test]
    fn a_ratio_is_of_one_round_and_the_median_of_all() {
        use Quantity::{Sagas, SagasOneByOne};
        let rounds = [(3000.0, 500.0), (2000.0, 500.0), (1000.0, 100.0)]
            .map(|(ours, theirs)| round(&[(Sagas, ours), (SagasOneByOne, theirs)]));
        let row = ROWS.iter().find(|row| row.id == "R1").unwrap();

        let filled = filled(row, &rounds).unwrap();

        assert_eq!((filled.median, filled.min, filled.max), (6.0, 4.0, 10.0));
        assert_eq!((filled.ours, filled.yardstick, filled.reached), (2000.0, Some(500.0), Some(true)));
    }

    #[test]
    fn a_row_without_its_yardstick_is_left_out_and_one_that_has_none_stands_alone() {
        let rounds = [round(&[(Quantity::Sagas, 1.0), (Quantity::MemoryIdle, 42.0)])];
        let of = |id| filled(ROWS.iter().find(|row| row.id == id).unwrap(), &rounds);

        assert!(of("R1").is_none());
        let alone = of("R12").unwrap();
        assert_eq!((alone.median, alone.yardstick, alone.reached), (42.0, None, Some(true)));
    }

    #[test]
    fn a_verdict_is_the_median_s_and_says_where_rounds_disagree() {
        let said = |reach, ratios: &[f64]| verdict(reach, median(ratios.to_vec()).unwrap(), ratios).unwrap_or_default();
        assert_eq!(said(Reach::AtLeast(5.0), &[5.0, 6.0, 7.0]), "reached");
        assert_eq!(said(Reach::AtLeast(5.0), &[4.9, 5.0, 6.0]), "reached (not in every round)");
        assert_eq!(said(Reach::AtLeast(5.0), &[3.0, 4.0, 6.0]), "short (not in every round)");
        assert_eq!(said(Reach::AtMost(2.0), &[3.0, 4.0, 6.0]), "short");
        assert_eq!(said(Reach::Told, &[1.0]), "");
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
