//! What services show of themselves, and what is made of it. In: a world. Out: a service's page, its families and its
//! series; and what the world's Prometheus knows of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::World;

/// A service's page of metrics, as it was.
#[derive(Clone, Debug)]
pub struct Page(String);

impl Page {
    /// Of the `replica`th replica of a service.
    ///
    /// # Errors
    ///
    /// It doesn't answer.
    pub async fn of(world: &World, service: &str, replica: usize) -> Result<Self> {
        let url = format!("http://{}/metrics", world.replica(service, replica)?.ops());
        Ok(Self(reqwest::get(url).await?.error_for_status()?.text().await?))
    }

    /// The families, as queries name them: a counter's with `_total`.
    pub fn families(&self) -> BTreeSet<String> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
    }

    /// Every series, name and labels, with its value.
    ///
    /// # Errors
    ///
    /// A value is none.
    pub fn series(&self) -> Result<BTreeMap<String, f64>> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').with_context(|| format!("no series: {line}"))?;
                Ok((series.to_owned(), value.parse()?))
            })
            .collect()
    }

    /// The value of a series: its name, and its labels in their order.
    ///
    /// # Errors
    ///
    /// There is no such series.
    pub fn value(&self, series: &str) -> Result<f64> {
        self.series()?.get(series).copied().with_context(|| format!("no {series} in\n{}", self.0))
    }

    /// The sum of all series that begin so: a name and `{`, and the first of their labels, or none.
    ///
    /// # Errors
    ///
    /// There is no such series.
    pub fn sum(&self, beginning: &str) -> Result<f64> {
        let series = self.series()?;
        let mut values = series.iter().filter(|(series, _)| series.starts_with(beginning)).map(|(_, value)| value);
        let first = values.next().with_context(|| format!("no {beginning} in\n{}", self.0))?;
        Ok(first + values.sum::<f64>())
    }
}

/// A world's Prometheus.
pub struct Prometheus {
    http: reqwest::Client,
    base: String,
}

/// A series that a query found.
#[derive(Clone, Debug, Deserialize)]
pub struct Found {
    /// Its labels.
    pub metric: BTreeMap<String, String>,
    /// When it was so, and its value, as a text.
    pub value: (f64, String),
}

#[derive(Deserialize)]
struct Answer<T> {
    status: String,
    error: Option<String>,
    data: Option<T>,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Found>,
}

/// An alert that Prometheus has, pending or firing.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// Its labels, its name among them.
    pub labels: BTreeMap<String, String>,
    /// What it says.
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

/// A rule that Prometheus judges by.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// `alerting` or `recording`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it asks.
    pub query: String,
    /// `ok` once it was judged by.
    pub health: String,
    /// What went wrong then.
    pub last_error: Option<String>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

impl Prometheus {
    /// Of this world.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn of(world: &World) -> Result<Self> {
        let base = world.stack().prometheus().context("a world with a Prometheus")?.url();
        Ok(Self { http: reqwest::Client::builder().no_proxy().build()?, base })
    }

    /// What a query finds now.
    ///
    /// # Errors
    ///
    /// It is none, or finds no series but a number.
    pub async fn query(&self, query: &str) -> Result<Vec<Found>> {
        let vector: Vector = self.get("query", &[("query", query)]).await.with_context(|| query.to_owned())?;
        Ok(vector.result)
    }

    /// The rules that it judges by.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        let Groups { groups } = self.get("rules", &[]).await?;
        Ok(groups.into_iter().flat_map(|group| group.rules).collect())
    }

    /// The alerts that are firing.
    ///
    /// # Errors
    ///
    /// It can't be asked.
    pub async fn firing(&self) -> Result<Vec<Alert>> {
        let Alerts { alerts } = self.get("alerts", &[]).await?;
        Ok(alerts.into_iter().filter(|alert| alert.state == "firing").collect())
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, what: &str, query: &[(&str, &str)]) -> Result<T> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{what}", self.base), query)?;
        let text = self.http.get(url).send().await?.text().await?;
        let answer: Answer<T> = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer.status == "success", "{:?}", answer.error);
        answer.data.context("no data")
    }
}
