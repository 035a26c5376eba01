//! The program `bench`: how fast the whole system is, against yardsticks on the same machine in the same run; on systems and
//! servers of its own, with fsync on.

mod buyers;
mod callers;
mod copy;
mod explore;
mod flame;
mod lag;
mod load;
mod measure;
mod meter;
mod outcomes;
mod report;
mod rig;
mod rounds;
mod scale;
mod search;
mod table;
mod topics;
mod unary;
mod yardstick;

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser};
use local::progress::say;

use crate::{
    buyers::Buyers,
    measure::Measurement,
    outcomes::Goal,
    report::{Machine, Report},
    rig::{Rig, Variant},
    rounds::Round,
    scale::Scale,
    table::ROWS,
    yardstick::spans,
};

/// How fast the whole system is, against what the same machine does alone.
#[derive(Parser)]
enum Arguments {
    /// Takes every ratio, and writes the report.
    Report(Ratios),
    /// Looks at single rates.
    Explore(explore::Explore),
    /// Makes spans: what a part of the report has done in a process of its own.
    #[command(hide = true)]
    Spans(spans::Spans),
}

/// Which ratios, and where the report goes.
#[derive(Args)]
struct Ratios {
    /// A folder; made if missing.
    #[arg(long, default_value = "bench/report")]
    out: PathBuf,
    /// Each once, at a hundredth of the sizes.
    #[arg(long)]
    quick: bool,
    /// These rows of the table alone: `R1,R6`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many rounds, if not as many as usual.
    #[arg(long)]
    rounds: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Report(ratios) => ratios.take().await,
        Arguments::Explore(explore) => explore.run().await,
        Arguments::Spans(spans) => spans.make().await,
    }
}

impl Ratios {
    async fn take(self) -> Result<()> {
        let plan = self.plan()?;
        let mut scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        scale.rounds = self.rounds.unwrap_or(scale.rounds);
        // Before all the work, rather than after it.
        let out = &self.out;
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        say(format_args!("the report goes to {}", out.display()));
        let rig = Rig::start(scale).await?;
        let machine = Machine::this(&rig).await?;
        warm_up(&rig).await?;
        let show = |rounds: &[Round]| Report::new(&machine, scale, rounds, &[]).write(out);
        let rounds = rounds::take(&rig, &plan, show).await?;
        let flames = if self.only.is_empty() { flame::graphs(&rig, &rounds, out).await? } else { Vec::new() };
        rig.stop().await?;
        let report = Report::new(&machine, scale, &rounds, &flames);
        report.write(out)?;
        say(format_args!("{} has the report\n\n{}", out.display(), report.table()));
        let failed = rounds.iter().map(|round| round.failed.len()).sum::<usize>();
        ensure!(failed == 0, "{failed} figures could not be taken");
        Ok(())
    }

    fn plan(&self) -> Result<Vec<Measurement>> {
        let asked = |asked: &String| ROWS.iter().any(|row| row.is_of(asked));
        let unknown: Vec<_> = self.only.iter().filter(|only| !asked(only)).collect();
        let all: Vec<_> = ROWS.iter().map(|row| row.id).collect();
        ensure!(unknown.is_empty(), "there is no {unknown:?}, but {}", all.join(", "));
        let rows = ROWS.iter().filter(|row| self.only.is_empty() || self.only.iter().any(|only| row.is_of(only)));
        let wanted: BTreeSet<_> = rows.flat_map(|row| row.quantities()).collect();
        Ok(Measurement::that_give(&wanted))
    }
}

/// Kafka's virtual machine compiles what it runs often: without load before, the first round would be slower than the rest.
async fn warm_up(rig: &Rig) -> Result<()> {
    const RATE: f64 = 800.0;
    say(format_args!("warming up for {:?}", rig.scale.warm_up));
    let system = rig.system(&Variant::default()).await?;
    let buyers = Buyers::ready(&system.stack, 100, Goal::Completed).await?;
    buyers.run(RATE, rig.scale.warm_up).await?;
    buyers.rest().await?;
    system.stop().await
}
