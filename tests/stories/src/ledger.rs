//! The payment provider's own books, and its moods. In: a world. Out: every movement of money, whoever believes what about
//! it; and the switches that make the provider misbehave, for one order alone, so that stories don't disturb each other.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::orders::v1::{Order, OrderStatus};
use local::{sandbox::SECRET_KEY, wait};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{SETTLED, World};

/// How long the sandbox may take for an answer of its own.
const LIMIT: Duration = Duration::from_secs(10);

/// The provider's ledger.
#[derive(Clone)]
pub struct Ledger {
    http: reqwest::Client,
    base: String,
}

/// Money that moved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Movement {
    /// Which way.
    pub kind: Kind,
    /// The charge that it is, or that it gives back.
    pub payment_intent: String,
    /// In the currency's minor unit.
    pub amount: i64,
    /// ISO 4217, in lower case.
    pub currency: String,
    /// What payments says that it is about: `order_id`, `payment_id`.
    pub metadata: BTreeMap<String, String>,
}

/// Which way money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To us.
    Charge,
    /// Back.
    Refund,
}

/// The sums of a currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// How many charges.
    pub charges: u64,
    /// How much they took, in the minor unit.
    pub charged: i64,
    /// How many refunds.
    pub refunds: u64,
    /// How much they gave back.
    pub refunded: i64,
}

/// How often something goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Often {
    /// So many times.
    Times(u32),
    /// As often as it is asked for, so long.
    For(Duration),
}

impl Ledger {
    /// That of a world's provider.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn of(world: &World) -> Result<Self> {
        let base = world.stack().sandbox().context("a world with payments has a sandbox")?.url();
        Ok(Self { http: reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?, base })
    }

    /// All that ever moved, in order.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked.
    pub async fn movements(&self) -> Result<Vec<Movement>> {
        self.read("").await
    }

    /// What moved for an order, in order.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked.
    pub async fn movements_of(&self, order_id: &str) -> Result<Vec<Movement>> {
        self.read(&format!("?order_id={order_id}")).await
    }

    /// All that ever moved, by its order.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked, or money moved for no order.
    pub async fn by_order(&self) -> Result<HashMap<String, Vec<Movement>>> {
        let mut orders: HashMap<String, Vec<Movement>> = HashMap::new();
        for movement in self.movements().await? {
            let order = movement.metadata.get("order_id").with_context(|| format!("of no order: {movement:?}"))?;
            orders.entry(order.clone()).or_default().push(movement);
        }
        Ok(orders)
    }

    /// The sums, by currency in lower case.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked.
    pub async fn totals(&self) -> Result<BTreeMap<String, Totals>> {
        let answer = self.http.get(format!("{}/sandbox/totals", self.base)).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// Charges or refunds of an order go wrong in this way, by the sandbox's name for it.
    ///
    /// # Errors
    ///
    /// It knows no such fault, or can't be asked.
    pub async fn breaks(&self, order_id: &str, operation: Kind, fault: &str, often: Often) -> Result<()> {
        let operation = match operation {
            Kind::Charge => "charge",
            Kind::Refund => "refund",
        };
        let mut switch = json!({ "operation": operation, "fault": fault, "order_id": order_id });
        match often {
            Often::Times(times) => switch["times"] = json!(times),
            Often::For(time) => switch["for"] = json!(format!("{}ms", time.as_millis())),
        }
        let answer = self.http.post(format!("{}/sandbox/faults", self.base)).json(&switch).send().await?;
        let (status, answer) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{switch}: {status} {answer}");
        Ok(())
    }

    /// Gives the money of an order back, as somebody does who has the provider's own page: payments isn't told.
    ///
    /// # Errors
    ///
    /// There is none, or the sandbox can't be asked.
    pub async fn gives_back(&self, order_id: &str) -> Result<()> {
        let movements = self.movements_of(order_id).await?;
        let charge = movements.first().context("nothing was charged")?;
        let form = format!("payment_intent={}&metadata%5Border_id%5D={order_id}", charge.payment_intent);
        self.asks("refunds", form).await
    }

    /// Charges so much in US dollars for an order, whether there is one or not, as somebody does who has our key.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked.
    pub async fn charges(&self, order_id: &str, cents: i64) -> Result<()> {
        let form = "currency=usd&payment_method=pm_card_visa&confirm=true";
        self.asks("payment_intents", format!("{form}&amount={cents}&metadata%5Border_id%5D={order_id}")).await
    }

    async fn asks(&self, what: &str, form: String) -> Result<()> {
        let request = self.http.post(format!("{}/v1/{what}", self.base)).bearer_auth(SECRET_KEY).body(form);
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await?;
        let (status, answer) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status} {answer}");
        Ok(())
    }

    /// Nothing goes wrong any more.
    ///
    /// # Errors
    ///
    /// The sandbox can't be asked.
    pub async fn mends(&self) -> Result<()> {
        let answer = self.http.delete(format!("{}/sandbox/faults", self.base)).send().await?.error_for_status()?;
        let left: Value = answer.json().await?;
        ensure!(left["faults"] == json!([]), "still on: {left}");
        Ok(())
    }

    /// Waits until so many charges and refunds were made for an order.
    ///
    /// # Errors
    ///
    /// They aren't in time.
    pub async fn awaits(&self, order_id: &str, charges: usize, refunds: usize) -> Result<()> {
        let what = format!("{charges} charges and {refunds} refunds of order {order_id}");
        wait::until(&what, SETTLED, || async {
            let movements = self.movements_of(order_id).await?;
            let made = (count(&movements, Kind::Charge), count(&movements, Kind::Refund));
            ensure!(made == (charges, refunds), "it is {movements:?}");
            Ok(())
        })
        .await
    }

    async fn read(&self, query: &str) -> Result<Vec<Movement>> {
        let answer = self.http.get(format!("{}/sandbox/ledger{query}", self.base)).send().await?.error_for_status()?;
        let lines = answer.text().await?;
        lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// What is wrong with the money of an order that has ended, if anything is: by the auditor's rule, and what moved was its
/// total.
pub fn wrong(order: &Order, movements: &[Movement]) -> Option<String> {
    let total = order.total_price.as_ref().map_or(0, |total| total.minor_units);
    let ended = match order.status() {
        OrderStatus::Completed => Some(audit::case::OrderStatus::Completed),
        OrderStatus::Cancelled => Some(audit::case::OrderStatus::Cancelled),
        _ => None,
    };
    let (charges, refunds) = (count(movements, Kind::Charge), count(movements, Kind::Refund));
    let fair = ended.is_some_and(|status| audit::rules::money::on_one_side(status, total, charges, refunds));
    let whole = movements.iter().all(|movement| movement.amount == total);
    (!fair || !whole).then(|| format!("money and ticket are on two sides: {order:?}, {movements:?}"))
}

/// How many movements there are of a kind.
pub fn count(movements: &[Movement], kind: Kind) -> usize {
    movements.iter().filter(|movement| movement.kind == kind).count()
}
