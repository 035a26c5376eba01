//! Connections for reading, which all calls share.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt as _;
use shared::db::Pool;

use crate::support::Db;

#[tokio::test]
async fn a_read_waits_its_turn_however_long_others_take() {
    let db = Db::empty().await;
    let pool = Pool::new(db.database.clone(), 1);
    let held = pool.get().await.unwrap();
    tokio::time::pause();

    let mut turn = pin!(pool.get());
    assert!(turn.as_mut().now_or_never().is_none(), "there is one connection");
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(turn.as_mut().now_or_never().is_none(), "an hour says nothing of the database");

    tokio::time::resume();
    drop(held);
    drop(turn.await.unwrap());
}
