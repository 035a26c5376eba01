//! What services do when there is nothing to do.

use anyhow::{Result, ensure};
use local::wait;
use stories::{SETTLED, World, delay};

/// What is not due yet: far more than a look could walk over unnoticed.
const WAITING: i64 = 5000;

#[tokio::test]
async fn a_look_for_what_is_due_passes_by_all_that_is_not() -> Result<()> {
    let world = World::start().await?;
    let timers = "INSERT INTO expirations (order_id, expires_at, status, traceparent) \
                  SELECT gen_random_uuid(), now() + interval '1 day', 1, \
                  '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' FROM generate_series(1, $1::bigint)";
    let payments = "WITH account AS (INSERT INTO accounts \
                    SELECT gen_random_uuid(), 'alice', 'USD', 100, 2, 2, \
                    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, $1::bigint) \
                    RETURNING order_id) \
                    INSERT INTO payments SELECT order_id, order_id, 'alice', 'pm_card_visa', 1, NULL, 'stripe', NULL, 1, 1, \
                    now(), NULL, now() + interval '1 day', 1, now(), now() FROM account";
    for (service, fill, index) in [("expiration", timers, "expirations_due"), ("payments", payments, "payments_due")] {
        let session = delay::connect(&world, service).await?;
        session.execute(fill, &[&WAITING]).await?;
        let used = async || -> Result<(i64, i64)> {
            let used = "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1";
            let row = session.query_one(used, &[&index]).await?;
            Ok((row.get(0), row.get(1)))
        };
        let (looks, read) = used().await?;
        wait::until(&format!("three more looks by {index}"), SETTLED, async || {
            let (now, _) = used().await?;
            ensure!(now >= looks + 3, "{} so far", now - looks);
            Ok(())
        })
        .await?;
        let (_, now) = used().await?;
        assert!(now - read < WAITING, "{service} read {} entries of {index}, and none is due", now - read);
    }
    world.end().await
}
