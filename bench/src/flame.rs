//! Flame graphs of the services at work, by `perf`, where there is one. In: a rig. Out: an SVG a service.

use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use inferno::{
    collapse::{Collapse, perf::Folder},
    flamegraph::{self, Options},
};
use local::progress::say;
use tokio::process::Command;

use crate::{
    buyers::Buyers,
    outcomes::Goal,
    rig::{Rig, Variant},
    rounds::Round,
    table::Quantity,
};

/// Of the best rate: the system keeps up, and is busy.
const SHARE: f64 = 0.8;

/// Makes them. Gives their files' names; none, if there is no perf that may look.
///
/// # Errors
///
/// The system fails, or the folder can't be written to.
pub(crate) async fn graphs(rig: &Rig, rounds: &[Round], out: &Path) -> Result<Vec<String>> {
    let best = rounds.iter().filter_map(|round| round.figures.get(&Quantity::Sagas)).copied();
    let Some(best) = best.reduce(f64::min) else { return Ok(Vec::new()) };
    if !Command::new("perf")
        .args(["record", "-o", "/dev/null", "true"])
        .output()
        .await
        .is_ok_and(|it| it.status.success())
    {
        say("no flame graphs: there is no perf here that may look");
        return Ok(Vec::new());
    }
    say("flame graphs");
    let folder = tempfile::TempDir::new()?;
    let system = rig.system(&Variant::default()).await?;
    let buyers = Buyers::ready(&system.stack, rig.scale.tickets, Goal::Completed).await?;
    let mut perfs = Vec::new();
    for service in system.stack.services() {
        let pid = service.process().pid().context("a service that runs")?;
        let data = folder.path().join(service.name());
        let perf = Command::new("perf")
            .args(["record", "-q", "-F", "199", "--call-graph", "dwarf,16384", "-p", &pid.to_string(), "-o"])
            .arg(&data)
            .kill_on_drop(true)
            .spawn()?;
        perfs.push((service.name(), data, perf));
    }
    let rate = best * SHARE;
    buyers.run(rate, rig.scale.try_for.min(Duration::from_secs(8))).await?;
    // perf ends when what it looks at does.
    system.stop().await?;
    let mut names = Vec::new();
    for (service, data, mut perf) in perfs {
        perf.wait().await?;
        let script = folder.path().join(format!("{service}.script"));
        let status =
            Command::new("perf").arg("script").arg("-i").arg(&data).stdout(File::create(&script)?).status().await?;
        ensure!(status.success(), "perf script: {status}");
        let name = format!("flame-{service}.svg");
        draw(&script, &out.join(&name), &title(service, rate))?;
        names.push(name);
    }
    Ok(names)
}

fn title(service: &str, rate: f64) -> String {
    let share = SHARE * 100.0;
    format!(
        "{service}, at {rate:.0} whole sagas a second: {share:.0} % of the highest rate of the round in which that was least"
    )
}

fn draw(script: &Path, file: &Path, title: &str) -> Result<()> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(File::open(script)?), &mut folded)?;
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, std::str::from_utf8(&folded)?.lines(), &mut picture)?;
    fs::write(file, picture).with_context(|| format!("writing {}", file.display()))
}
