//! The report as a page.

use std::fmt::Write as _;

use super::{Filled, Report};
use crate::table::Unit;

/// What figures don't say by themselves.
const NOTES: &str = include_str!("../../notes.md");

/// The table alone, of so many rounds.
pub(super) fn table(rows: &[Filled], rounds: usize) -> String {
    let mut page = String::from(
        "| | ours | beside | ours | yardstick | ratio | min – max | reach | |\n|---|---|---|--:|--:|--:|:-:|--:|---|\n",
    );
    for row in rows {
        let figure = |value: f64| match row.row.unit {
            Unit::PerSecond => format!("{value:.0}/s"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Megabytes => format!("{value:.0} MB"),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Times => format!("{value:.2}"),
        };
        let ratio = |value: f64| match row.yardstick {
            Some(_) => format!("{value:.2}"),
            None => figure(value),
        };
        let verdict = row.verdict.as_ref().map(|verdict| verdict.replace("short", "**short**"));
        let fewer = (row.rounds.len() < rounds).then(|| format!("of {} of {rounds} rounds", row.rounds.len()));
        let mark = [verdict, fewer].into_iter().flatten().collect::<Vec<_>>().join("; ");
        // Writing to a string can't fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} – {} | {} | {mark} |",
            row.id,
            row.row.what,
            row.row.with,
            figure(row.ours),
            row.yardstick.map_or_else(|| "–".to_owned(), figure),
            ratio(row.median),
            ratio(row.min),
            ratio(row.max),
            row.reach
        );
    }
    page
}

/// All of it.
pub(super) fn page(report: &Report<'_>) -> String {
    let Report { machine, scale, ratios, rounds, flames } = report;
    let mut page = format!(
        "# How fast, against what the same machine does alone\n\n\
         {} on {}: {} × {}, {:.0} GB, Linux {}.\n{}.\nSettings: {}.\n\n\
         Each figure was taken {} times, in rounds of all, but for rows that say less; a ratio is of one round, and the table has \
         the median of the rounds. A system is fresh for every figure (R10's databases are kept, and grow), and a whole one is \
         audited before its figure counts. Rates are the highest that an open loop held for {} s: nothing refused, nothing \
         missing, p99 below 1 s, and within 1 s of the end all seen, and told and handled by every service.\n\n{}\n\
         ![ratios, as shares of what is to be reached](ratios.svg)\n\n\
         ## Where an order's CPU goes\n\n![CPU by process](cpu.svg)\n\n",
        machine.commit,
        machine.date,
        machine.cores,
        machine.processor,
        machine.memory,
        machine.kernel,
        machine.versions.join("; "),
        machine.settings.join("; "),
        rounds.len(),
        scale.try_for.as_secs(),
        table(ratios, rounds.len()),
    );
    if flames.is_empty() {
        page += "No flame graphs: there is no `perf` on this machine, or none was asked for.\n\n";
    }
    for flame in *flames {
        let _ = writeln!(page, "![{flame}]({flame})\n");
    }
    page += NOTES;
    page += "\n## Every round\n\nTaken again by `make bench`; some rows, elsewhere than over this report, by \
             `make bench ONLY=R1,R6 OUT=target/bench`.\n";
    for (number, round) in rounds.iter().enumerate() {
        let _ = writeln!(page, "\n### Round {}\n", number + 1);
        for (measurement, taken) in &round.taken {
            let figures: Vec<_> = taken.figures.iter().map(|(what, value)| format!("{what:?} {value:.2}")).collect();
            let _ = writeln!(page, "- {measurement:?}: {}", figures.join(", "));
            for line in &taken.told {
                let _ = writeln!(page, "  - `{}`", line.trim());
            }
            if !taken.cpu.is_empty() {
                let cpu: Vec<_> = taken.cpu.iter().map(|(name, ms)| format!("{name} {ms:.3}")).collect();
                let _ = writeln!(page, "  - ms of CPU each: {}", cpu.join(", "));
            }
        }
        for (measurement, why) in &round.failed {
            let _ = writeln!(page, "- {measurement:?}: no figure. `{}`", why.replace(['\n', '`'], " "));
        }
    }
    page
}
