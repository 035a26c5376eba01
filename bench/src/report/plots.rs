//! Pictures.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Filled;
use crate::{measure::Measurement, rounds::Round, table::Reach};

const WIDTH: u32 = 900;
const LINE: u32 = 34;
const INK: RGBColor = RGBColor(40, 44, 52);
const GOOD: RGBColor = RGBColor(46, 125, 80);
const SHORT: RGBColor = RGBColor(190, 74, 50);
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 92, 158),
    RGBColor(46, 125, 80),
    RGBColor(201, 138, 27),
    RGBColor(147, 66, 143),
    RGBColor(190, 74, 50),
    RGBColor(79, 149, 160),
    RGBColor(120, 120, 120),
    RGBColor(160, 120, 80),
];

/// Every row as a share of what it is to reach, so that 1 and more is reached, whichever way it counts.
pub(super) fn ratios(file: &Path, rows: &[Filled]) -> Result<()> {
    let share = |row: &Filled, value: f64| match row.row.reach {
        Reach::AtLeast(reach) => Some(value / reach),
        Reach::AtMost(reach) => Some(reach / value),
        Reach::Told => None,
    };
    let rows: Vec<_> = rows.iter().filter(|row| share(row, row.median).is_some()).collect();
    let height = 90 + LINE * u32::try_from(rows.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("share of what is to be reached (median, and from the least to the most)", ("sans-serif", 17, &INK))
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d((0.1..10.0).log_scale(), 0.0..rows.len().max(1) as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|at| format!("{at}"))
        .label_style(("sans-serif", 13, &INK))
        .draw()?;
    for (nth, row) in rows.iter().rev().enumerate() {
        let y = nth as f64 + 0.5;
        let at = |value: f64| share(row, value).unwrap_or(1.0).clamp(0.1, 10.0);
        let colour = if row.reached == Some(true) { GOOD } else { SHORT };
        let ends = [(at(row.min), y), (at(row.max), y)];
        chart.draw_series(LineSeries::new(ends, colour.stroke_width(3)))?;
        chart.draw_series([Circle::new((at(row.median), y), 5, colour.filled())])?;
        let label = format!("{} {:.2}", row.id, row.median);
        chart.draw_series([Text::new(label, (0.105, y + 0.15), ("sans-serif", 13).into_font().color(&INK))])?;
    }
    let line = [(1.0, 0.0), (1.0, rows.len() as f64)];
    chart.draw_series(LineSeries::new(line, INK.stroke_width(1)))?;
    root.present().map_err(|error| anyhow!("{error}"))
}

/// Milliseconds of CPU of each process, for a saga and for an order whose stock is held: medians of the rounds.
pub(super) fn cpu(file: &Path, rounds: &[Round]) -> Result<()> {
    let bars = [(Measurement::Sagas, "a whole saga"), (Measurement::Orders, "an order until its stock is held")];
    let bars: Vec<_> = bars.into_iter().map(|(of, name)| (name, medians(rounds, of))).collect();
    let most = bars.iter().map(|(_, bar)| bar.values().sum::<f64>()).fold(0.01, f64::max);
    let root = SVGBackend::new(file, (WIDTH, 260)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("milliseconds of CPU each, at the highest rate that held", ("sans-serif", 17, &INK))
        .x_label_area_size(30)
        .y_label_area_size(10)
        .build_cartesian_2d(0.0..most * 1.05, 0.0..3.4)?;
    chart.configure_mesh().disable_y_mesh().y_labels(0).label_style(("sans-serif", 13, &INK)).draw()?;
    let mut names: Vec<&str> = bars.iter().flat_map(|(_, bar)| bar.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    for (nth, (name, bar)) in bars.iter().enumerate() {
        let bottom = 1.1 - nth as f64;
        let mut from = 0.0;
        for (process, ms) in bar {
            let colour = names.iter().position(|name| name == process).unwrap_or_default();
            let corners = [(from, bottom), (from + ms, bottom + 0.55)];
            chart.draw_series([Rectangle::new(corners, COLOURS[colour % COLOURS.len()].filled())])?;
            from += ms;
        }
        let label = format!("{name}: {from:.2} ms");
        chart.draw_series([Text::new(label, (0.0, bottom + 0.8), ("sans-serif", 14).into_font().color(&INK))])?;
    }
    for (nth, name) in names.iter().enumerate() {
        let (x, y) = (most * 1.05 / names.len() as f64 * nth as f64, 3.0);
        let colour = COLOURS[nth % COLOURS.len()];
        chart.draw_series([Rectangle::new([(x, y - 0.1), (x + most * 0.015, y + 0.1)], colour.filled())])?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart.draw_series([Text::new((*name).to_owned(), (x + most * 0.02, y + 0.12), text)])?;
    }
    root.present().map_err(|error| anyhow!("{error}"))
}

fn medians(rounds: &[Round], of: Measurement) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let taken = rounds.iter().flat_map(|round| &round.taken).filter(|(measurement, _)| *measurement == of);
    for (name, ms) in taken.flat_map(|(_, taken)| &taken.cpu) {
        all.entry(name.clone()).or_default().push(*ms);
    }
    all.into_iter().filter_map(|(name, values)| Some((name, super::median(values)?))).collect()
}
