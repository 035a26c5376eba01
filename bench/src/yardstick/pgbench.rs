//! Postgres alone, driven by its own benchmark.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use local::session::Session;
use tokio::process::Command;

use crate::{
    meter::{Cost, LogUse},
    rig::Rig,
};

/// Rows as large as an order's: about 200 bytes.
const SINGLE_ROW: Script = Script { name: "single_row", text: include_str!("../../sql/single_row.sql"), each: 1.0 };
/// A whole saga, a transaction a step.
const SAGA: Script = Script { name: "saga", text: include_str!("../../sql/saga.sql"), each: 1.0 };
/// A hundred sagas, a statement per table.
const SAGA_BATCHED: Script =
    Script { name: "saga_batched", text: include_str!("../../sql/saga_batched.sql"), each: 100.0 };
/// Five hundred events' effects.
const CONSUME_BATCHED: Script =
    Script { name: "consume_batched", text: include_str!("../../sql/consume_batched.sql"), each: 500.0 };
/// Five hundred timers.
const CLAIM_BATCHED: Script =
    Script { name: "claim_batched", text: include_str!("../../sql/claim_batched.sql"), each: 500.0 };

/// The services' own tables, each service's with its name.
pub(crate) const ENGINE: &str = concat!(
    include_str!("../../../shared/migrations/2026-11-23-000000_engine/up.sql"),
    include_str!("../../../shared/migrations/2026-11-26-000000_inbox_last/up.sql")
);
pub(crate) const TABLES: [(&str, &str); 4] = [
    ("tickets", include_str!("../../../services/tickets/migrations/2026-11-23-000001_tickets/up.sql")),
    ("orders", include_str!("../../../services/orders/migrations/2026-11-23-000001_orders/up.sql")),
    (
        "payments",
        concat!(
            include_str!("../../../services/payments/migrations/2026-11-25-000001_payments/up.sql"),
            include_str!("../../../services/payments/migrations/2026-11-25-000002_payments_alone/up.sql"),
            include_str!("../../../services/payments/migrations/2026-11-25-000003_payments_leaner/up.sql")
        ),
    ),
    ("expiration", include_str!("../../../services/expiration/migrations/2026-11-23-000001_expiration/up.sql")),
];
const SETUP: &str = include_str!("../../sql/setup.sql");

/// What a transaction does.
#[derive(Clone, Copy)]
struct Script {
    name: &'static str,
    text: &'static str,
    /// How many of what is counted a transaction does.
    each: f64,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What is counted, a second.
    pub rate: f64,
    /// What one of it took, the client not counted.
    pub cost: Cost,
    /// How it was called.
    pub command: String,
}

/// Single rows, by 32 clients.
///
/// # Errors
///
/// pgbench can't be run, or says nothing that can be read; as below.
pub(crate) async fn single_rows(rig: &Rig) -> Result<Ran> {
    let database = Database::make(rig).await?;
    let session = Session::connect(&database.url).await?;
    let table = "CREATE TABLE pgbench_row (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, filler text)";
    session.batch_execute(table).await?;
    let ran = database.run(rig, SINGLE_ROW, 32, Until::Time).await?;
    database.remove(rig).await?;
    Ok(ran)
}

/// Sagas as they are usually written, by the best number of clients.
///
/// # Errors
///
/// As above.
pub(crate) async fn sagas(rig: &Rig) -> Result<Ran> {
    best_of(rig, SAGA).await
}

/// Sagas by hundreds, by the best number of clients.
///
/// # Errors
///
/// As above.
pub(crate) async fn sagas_batched(rig: &Rig) -> Result<Ran> {
    best_of(rig, SAGA_BATCHED).await
}

/// Events' effects, by the best number of clients.
///
/// # Errors
///
/// As above.
pub(crate) async fn consume_batched(rig: &Rig) -> Result<Ran> {
    best_of(rig, CONSUME_BATCHED).await
}

/// So many timers that are due, claimed until none is left, by the best number of clients.
///
/// # Errors
///
/// As above.
pub(crate) async fn claim_batched(rig: &Rig, due: usize) -> Result<Ran> {
    let mut best = None;
    // With more, each would have but a few batches, and the last of them none to claim.
    for clients in [2, 8] {
        keep_better(&mut best, claim_batched_by(rig, due, clients).await?);
    }
    best.context("nothing ran")
}

async fn claim_batched_by(rig: &Rig, due: usize, clients: usize) -> Result<Ran> {
    let database = Database::make(rig).await?;
    database.with_services_tables().await?;
    let session = Session::connect(&database.url).await?;
    let fill = "INSERT INTO expiration.expirations \
                SELECT id(n), now() - interval '1 hour', 1, \
                '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, $1::bigint) n";
    session.execute(fill, &[&i64::try_from(due)?]).await?;
    session.batch_execute("ANALYZE expiration.expirations; CHECKPOINT").await?;
    let transactions = due.div_ceil(CLAIM_BATCHED.each as usize).div_ceil(clients);
    let ran = database.run(rig, CLAIM_BATCHED, clients, Until::Transactions(transactions)).await?;
    // Whoever comes last finds fewer than a batch, for the others have them locked.
    let claimed = "SELECT count(*)::float8 FROM expiration.expirations WHERE status = 2";
    let claimed: f64 = session.query_one(claimed, &[]).await?.get(0);
    database.remove(rig).await?;
    let each = claimed / (transactions * clients) as f64;
    Ok(Ran { rate: ran.rate * each / CLAIM_BATCHED.each, ..ran })
}

fn keep_better(best: &mut Option<Ran>, ran: Ran) {
    if best.as_ref().is_none_or(|best| ran.rate > best.rate) {
        *best = Some(ran);
    }
}

/// The best of a few numbers of clients, each on fresh tables: two, for cores; more, for commits to share a flush.
async fn best_of(rig: &Rig, script: Script) -> Result<Ran> {
    let mut best = None;
    for clients in [2, 8, 32] {
        let database = Database::make(rig).await?;
        database.with_services_tables().await?;
        keep_better(&mut best, database.run(rig, script, clients, Until::Time).await?);
        database.remove(rig).await?;
    }
    best.context("nothing ran")
}

/// When it ends.
enum Until {
    Time,
    /// So many of each client.
    Transactions(usize),
}

/// A database of its own.
pub(super) struct Database {
    pub(super) url: String,
}

impl Database {
    const NAME: &str = "yardstick";

    pub(super) async fn make(rig: &Rig) -> Result<Self> {
        let (name, admin) = (Self::NAME, Session::connect(&rig.postgres_url("postgres")).await?);
        // What one that failed has left.
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Self { url: rig.postgres_url(name) })
    }

    /// Beside what is measured next nothing of it is vacuumed or written back.
    pub(super) async fn remove(self, rig: &Rig) -> Result<()> {
        let admin = Session::connect(&rig.postgres_url("postgres")).await?;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", Self::NAME)).await?;
        Ok(admin.batch_execute("CHECKPOINT").await?)
    }

    pub(super) async fn with_services_tables(&self) -> Result<()> {
        let session = Session::connect(&self.url).await?;
        for (service, tables) in TABLES {
            let own = "CREATE TABLE inbox (event_id uuid PRIMARY KEY); \
                       CREATE TABLE outbox_all PARTITION OF outbox DEFAULT";
            session.batch_execute(&format!("CREATE SCHEMA {service}; SET search_path = {service}")).await?;
            for statements in [ENGINE, tables, own] {
                session.batch_execute(statements).await.with_context(|| format!("the tables of {service}"))?;
            }
        }
        session.batch_execute(&format!("SET search_path = public; {SETUP}")).await?;
        Ok(())
    }

    async fn run(&self, rig: &Rig, script: Script, clients: usize, until: Until) -> Result<Ran> {
        let folder = tempfile::TempDir::new()?;
        let file = folder.path().join(format!("{}.sql", script.name));
        tokio::fs::write(&file, script.text).await?;
        let (clients, jobs) = (clients.to_string(), clients.min(2).to_string());
        let limit = match until {
            Until::Time => ["-T".to_owned(), rig.scale.yardstick_for.as_secs().to_string()],
            Until::Transactions(of_each) => ["-t".to_owned(), of_each.to_string()],
        };
        let arguments = ["-n", "-M", "prepared", "-D", "n=0", "-c", &clients, "-j", &jobs, &limit[0], &limit[1]];
        let command = format!("pgbench {} -f bench/sql/{}.sql", arguments.join(" "), script.name);
        let postgres = rig.servers.postgres.process();
        let (cpu, log) = (postgres.cpu_time(), LogUse::of(&self.url).await?);
        let output = Command::new(program(&rig.programs, "pgbench"))
            .args(arguments)
            .arg("-f")
            .arg(&file)
            .arg(&self.url)
            .output()
            .await?;
        let (cpu, after) = (postgres.cpu_time().saturating_sub(cpu), LogUse::of(&self.url).await?);
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let told = |begins: &str| -> Option<f64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(begins))?;
            rest.split([' ', '/']).next()?.parse().ok()
        };
        let told = |begins| told(begins).with_context(|| format!("{command}: {text}"));
        let done = told("number of transactions actually processed: ")? * script.each;
        let each = |used: f64| used / done.max(1.0);
        let cost = Cost {
            cpu: [("Postgres".to_owned(), each(cpu.as_secs_f64() * 1000.0))].into(),
            wal: each(after.bytes - log.bytes),
            syncs: each(after.syncs - log.syncs),
            ..Cost::default()
        };
        Ok(Ran { rate: told("tps = ")? * script.each, cost, command })
    }
}

/// Beside the server, where packages have it; else wherever the shell finds it.
fn program(beside: &Path, name: &str) -> PathBuf {
    Some(beside.join(name)).filter(|program| program.exists()).unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_tables_are_those_that_the_services_make() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let services = TABLES.map(|(service, sql)| (format!("services/{service}"), sql));
        for (owner, sql) in services.into_iter().chain([("shared".to_owned(), ENGINE)]) {
            for migration in fs::read_dir(root.join(&owner).join("migrations")).unwrap() {
                let path = migration.unwrap().path().join("up.sql");
                assert!(sql.contains(&fs::read_to_string(&path).unwrap()), "{} is missing", path.display());
            }
        }
    }
}
