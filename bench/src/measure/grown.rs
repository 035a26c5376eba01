//! Sagas in databases that have grown: millions of ended orders, of events that wait in the outbox's window to be dropped, and
//! of timers that are not due. They are filled once, and kept in the tools' cache on a Postgres of their own, which runs
//! only while it is measured; each run adds its few to them.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use anyhow::{Context, Result};
use local::{
    disk,
    ports::Port,
    postgres::{Postgres, PostgresConfig},
    progress::{say, step},
    session::Session,
};

use super::{Taken, sagas};
use crate::{
    rig::{Rig, SERVICES, System, Variant, terminate},
    table::Quantity as Q,
    yardstick::pgbench,
};

/// What `N` stands for.
const ROWS: [(&str, &str); 6] = [
    (
        "orders",
        "INSERT INTO orders SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user-' || n % 100000, \
         ('01900000-0000-7000-9000-' || lpad(to_hex(n % 10000), 12, '0'))::uuid, 'Concert', 1, 'USD', 29900, 3, NULL, \
         now(), '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL, 3, now(), now() FROM generate_series(1, N) n",
    ),
    (
        "orders",
        "INSERT INTO outbox (event_id, event_type, key, traceparent, payload) SELECT gen_random_uuid(), 'order.created', \
         '01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'), '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', \
         decode(repeat('5a', 250), 'hex') FROM generate_series(1, N) n",
    ),
    // In a transaction of its own, to which the rows are of the past.
    ("orders", "UPDATE outbox_cursor SET published = pg_current_snapshot()"),
    (
        "tickets",
        "INSERT INTO reservations SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
         ('01900000-0000-7000-9000-' || lpad(to_hex(n % 10000), 12, '0'))::uuid, 1, 2 FROM generate_series(1, N) n",
    ),
    (
        "payments",
        "INSERT INTO accounts SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user-' || n % 100000, \
         'USD', 29900, 3, 3, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, N) n; \
         INSERT INTO payments SELECT order_id, order_id, user_id, 'pm_card_visa', 2, NULL, 'stripe', 'pi_' || order_id, 1, 1, \
         now(), NULL, now(), 2, now(), now() FROM accounts",
    ),
    (
        "expiration",
        "INSERT INTO expirations SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, \
         now() + interval '10 years', CASE WHEN n <= LIVE THEN 1 ELSE 3 END, \
         '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, N) n",
    ),
];

/// What an ended order takes of the disk, with its event, its indexes, and its share of the log; with some to spare.
const BYTES_AN_ORDER: usize = 2_500;

/// The best rate on them.
pub(super) async fn sagas(rig: &Rig, guess: f64) -> Result<Taken> {
    let dir = rig.tools.cache().join(format!("bench-grown-{:016x}", fingerprint(rig).await?));
    let config = PostgresConfig { dir, port: Port::free()?, fsync: true, settings: Vec::new() };
    let postgres = Postgres::create(&rig.tools, config).await?;
    postgres.process().start().await?;
    let measured = measured(rig, &postgres, guess).await;
    terminate([postgres.process()]).await?;
    measured
}

async fn measured(rig: &Rig, postgres: &Postgres, guess: f64) -> Result<Taken> {
    let system = rig.prepare(&Variant::default(), postgres).await?;
    let admin = Session::connect(&postgres.url("postgres")).await?;
    forget_systems(&admin).await?;
    let filled = admin.query_one("SELECT count(*) FROM pg_database WHERE datname LIKE 'grown_%'", &[]).await?;
    if filled.get::<_, i64>(0) < SERVICES.len() as i64 {
        // Not all were given back.
        for service in SERVICES {
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS grown_{service}")).await?;
        }
        let gigabytes = (rig.scale.grown * BYTES_AN_ORDER).div_ceil(1_000_000_000);
        disk::require(rig.tools.cache(), gigabytes as u64, "filling databases with ended orders")?;
        system.stack.start().await?;
        system.stack.stop().await?;
        fill(rig, &system).await?;
    } else {
        for service in SERVICES {
            lend(&admin, postgres, service, &system.database(service)?).await?;
        }
    }
    system.stack.start().await?;
    let best = sagas::highest(rig, &system, guess).await?;
    system.audit().await?;
    system.stack.stop().await?;
    for service in SERVICES {
        take_back(&admin, postgres, service, &system.database(service)?).await?;
    }
    Ok(Taken::default().figure(Q::SagasGrown, best.run.rate).tell(best.run))
}

/// Removes what runs that failed or were interrupted have left under their systems' names: how far they came with it isn't
/// known, and no later system has such a name.
async fn forget_systems(admin: &Session) -> Result<()> {
    let systems = format!("^t[0-9a-f]+_({})$", SERVICES.join("|"));
    for row in admin.query("SELECT datname::text FROM pg_database WHERE datname ~ $1", &[&systems]).await? {
        let name: &str = row.get(0);
        admin.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await?;
    }
    for row in admin.query("SELECT rolname::text FROM pg_roles WHERE rolname ~ $1", &[&systems]).await? {
        let name: &str = row.get(0);
        admin.batch_execute(&format!("DROP ROLE \"{name}\"")).await?;
    }
    Ok(())
}

/// What the databases hold, and who can read that: they are filled anew when any of it changes.
async fn fingerprint(rig: &Rig) -> Result<u64> {
    let session = Session::connect(&rig.postgres_url("postgres")).await?;
    let major = "SELECT current_setting('server_version_num')::int / 10000";
    let major: i32 = session.query_one(major, &[]).await?.get(0);
    let mut hasher = DefaultHasher::new();
    (major, pgbench::ENGINE, pgbench::TABLES, ROWS, rig.scale.grown, rig.scale.grown_timers).hash(&mut hasher);
    Ok(hasher.finish())
}

async fn fill(rig: &Rig, system: &System<'_>) -> Result<()> {
    say(format_args!("filling databases with {} ended orders, once; it takes some minutes", rig.scale.grown));
    for (service, statements) in ROWS {
        let session = Session::connect(&system.database_url(service)?).await?;
        let statements = statements.replace("LIVE", &rig.scale.grown_timers.to_string());
        let statements = statements.replace("(1, N)", &format!("(1, {})", rig.scale.grown));
        step(&format!("filling {service}"), async { Ok(session.batch_execute(&statements).await?) }).await?;
    }
    for service in SERVICES {
        let session = Session::connect(&system.database_url(service)?).await?;
        step(&format!("vacuuming {service}"), async { Ok(session.batch_execute("VACUUM ANALYZE").await?) }).await?;
    }
    Ok(())
}

/// Gives a kept database the name and the owner that a system expects.
async fn lend(admin: &Session, postgres: &Postgres, service: &str, name: &str) -> Result<()> {
    admin.batch_execute(&format!("CREATE ROLE \"{name}\" LOGIN")).await?;
    admin.batch_execute(&format!("ALTER DATABASE \"grown_{service}\" RENAME TO \"{name}\"")).await?;
    admin.batch_execute(&format!("ALTER DATABASE \"{name}\" OWNER TO \"{name}\"")).await?;
    let session = Session::connect(&postgres.url(name)).await?;
    // The topics of before are gone, and with them what was said of places in them.
    session
        .batch_execute(&format!(
            "REASSIGN OWNED BY keeper TO \"{name}\"; TRUNCATE inbox_offsets; \
             UPDATE outbox_cursor SET topic = NULL, partitions = NULL, holder = NULL, expires_at = '-infinity', \
             published = pg_current_snapshot(), target = NULL, published_seq = NULL"
        ))
        .await
        .with_context(|| format!("lending {service}"))
}

/// Keeps it under a name that says so.
async fn take_back(admin: &Session, postgres: &Postgres, service: &str, name: &str) -> Result<()> {
    let keeper = "DO $$ BEGIN CREATE ROLE keeper; EXCEPTION WHEN duplicate_object THEN NULL; END $$";
    admin.batch_execute(keeper).await?;
    let session = Session::connect(&postgres.url(name)).await?;
    session.batch_execute(&format!("REASSIGN OWNED BY \"{name}\" TO keeper; DROP OWNED BY \"{name}\"")).await?;
    drop(session);
    // The session's end is the server's to notice.
    let sessions = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1";
    admin.query(sessions, &[&name]).await?;
    admin.batch_execute(&format!("ALTER DATABASE \"{name}\" RENAME TO \"grown_{service}\"")).await?;
    admin.batch_execute(&format!("DROP ROLE \"{name}\"")).await?;
    Ok(())
}
