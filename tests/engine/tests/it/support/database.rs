//! A database of a test's own.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use engine_tests::domain::CounterId;
use local::{
    ports::Port,
    postgres::{Postgres, PostgresConfig},
    session::Session,
    tools::Tools,
};
use shared::db::{self, Database};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

/// A variable that `local with-servers` sets.
#[allow(clippy::disallowed_methods, reason = "no service's setting: where the servers of this test run are")]
pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run this by `local with-servers`"))
}

/// A server of the test's own, with settings that win over the usual ones, and the folder in which it is.
pub async fn own_postgres(fsync: bool, settings: &[(&str, &str)]) -> (TempDir, Postgres) {
    // Postgres isn't root, whoever runs the tests.
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = PostgresConfig { dir: folder.path().join("postgres"), port: Port::free().unwrap(), fsync, settings };
    let postgres = Postgres::create(&Tools::from_env().unwrap(), config).await.unwrap();
    postgres.process().start().await.unwrap();
    (folder, postgres)
}

/// A database, up to date, with a session of the superuser's to look into it.
pub struct Db {
    pub url: String,
    pub database: Database,
    pub sql: Session,
    superuser: String,
}

impl Db {
    /// On the servers of this test run.
    pub async fn new() -> Self {
        Self::on(&server("TEST_POSTGRES_URL")).await
    }

    /// On a server of the test's own, by its superuser's URL.
    pub async fn on(server: &str) -> Self {
        let db = Self::empty_on(server).await;
        db::migrate(&db.database, engine_tests::migrations()).await.unwrap();
        shared::outbox::ensure_partitions(&db.database).await.unwrap();
        db
    }

    /// Without any table.
    pub async fn empty() -> Self {
        Self::empty_on(&server("TEST_POSTGRES_URL")).await
    }

    async fn empty_on(server: &str) -> Self {
        super::log();
        let name = format!("e{}", Uuid::new_v4().simple());
        let url = local::postgres::create_database(server, &name).await.unwrap();
        let superuser = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let database = Database::new(&url, "counter").unwrap();
        let sql = Session::connect(&superuser).await.unwrap();
        Self { url, database, sql, superuser }
    }

    /// The superuser's URL of it.
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// One more session of the superuser's, for locks and long transactions.
    pub async fn session(&self) -> Session {
        Session::connect(&self.superuser).await.unwrap()
    }

    /// The session for looking into it anew, after the server was away.
    pub async fn reconnect(&mut self) {
        self.sql = self.session().await;
    }

    /// A number that the database knows.
    pub async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(&format!("SELECT ({sql})::bigint"), &[]).await.unwrap().get(0)
    }

    /// What all counters come to.
    pub async fn sum(&self) -> i64 {
        self.number("SELECT coalesce(sum(value), 0) FROM counters").await
    }

    /// How far the group has come on a partition; -1 if it has never read it.
    pub async fn offset(&self, partition: i32) -> i64 {
        self.number(&format!(
            "SELECT coalesce(sum(next_offset), -1) FROM inbox_offsets \
             WHERE consumer_group = 'counter-events' AND topic = 'counter-commands' AND partition = {partition}"
        ))
        .await
    }

    /// A stranger's session, within a transaction that has locked these counters' rows.
    pub async fn locking(&self, ids: impl IntoIterator<Item = CounterId>) -> Session {
        let session = self.session().await;
        session.batch_execute("BEGIN").await.unwrap();
        for id in ids {
            lock(&session, id).await;
        }
        session
    }

    /// How many of its sessions wait for a lock.
    pub async fn waiting(&self) -> i64 {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        self.number(waiting).await
    }

    /// Ends every session of the engine's; how many there were.
    pub async fn terminate(&self) -> i64 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE application_name = 'counter' AND datname = current_database()";
        self.number(terminate).await
    }

    /// A counter's value and version, if it is there.
    pub async fn counter(&self, id: CounterId) -> Option<(i32, i64)> {
        let rows =
            self.sql.query(&format!("SELECT value, version FROM counters WHERE id = '{id}'"), &[]).await.unwrap();
        rows.first().map(|row| (row.get(0), row.get(1)))
    }

    /// Every counter's versions in the outbox, in the order of their sequence, are 1, 2, 3, … up to its own.
    pub async fn assert_versions_have_no_gap(&self) {
        use engine_tests::counter::v1::CounterEvent;
        use prost::Message as _;
        let mut seen = std::collections::HashMap::<String, i64>::new();
        for row in self.sql.query("SELECT payload FROM outbox ORDER BY seq", &[]).await.unwrap() {
            let event = CounterEvent::decode(row.get::<_, &[u8]>(0)).unwrap();
            let last = seen.entry(event.counter_id.clone()).or_default();
            assert_eq!(event.version, *last + 1, "of {}", event.counter_id);
            *last = event.version;
        }
        for row in self.sql.query("SELECT id::text, version FROM counters", &[]).await.unwrap() {
            let id: String = row.get(0);
            assert_eq!(seen.get(&id), Some(&row.get::<_, i64>(1)), "of {id}");
        }
    }
}

/// Locks a counter's row for the rest of the session's transaction.
pub async fn lock(session: &Client, id: CounterId) {
    session.execute(&format!("SELECT FROM counters WHERE id = '{id}' FOR UPDATE"), &[]).await.unwrap();
}
