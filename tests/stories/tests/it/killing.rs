//! Kill and audit, a short run of it. `make kill-and-audit` is the long one.

use anyhow::Result;
use stories::killing::{self, Plan};

#[tokio::test]
async fn whatever_is_killed_stock_and_money_are_conserved_and_every_acknowledged_order_is_decided() -> Result<()> {
    let report = killing::run(Plan { orders: 48, kills: 4, seed: 1 }).await?;
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.acknowledged > 0 && report.payments > 0, "{report:?}");
    Ok(())
}
