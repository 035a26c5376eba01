//! Traces as Jaeger shows them, through its own HTTP API. In: a world that has one. Out: traces, each span with its
//! service, its parent and whatever else it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::World;

/// More than any story makes.
const ALL: usize = 10_000;

/// A world's Jaeger.
pub struct Jaeger(String);

/// All spans that share an id.
#[derive(Clone, Debug)]
pub struct Trace {
    /// That id, in lower-case hexadecimal.
    pub id: String,
    /// In the order in which they began.
    pub spans: Vec<Span>,
}

/// A piece of work.
#[derive(Clone, Debug)]
pub struct Span {
    /// Who did it.
    pub service: String,
    /// Its name: `create orders`.
    pub name: String,
    /// Itself, in lower-case hexadecimal; as is its parent.
    pub id: String,
    /// What it hangs below; nothing for the root.
    pub parent: Option<String>,
    /// Other spans that it is about: trace and span.
    pub links: Vec<(String, String)>,
    /// What it says of itself. Numbers and truth values as texts.
    pub tags: BTreeMap<String, String>,
    /// What Jaeger finds wrong with it.
    pub warnings: Vec<String>,
}

impl Jaeger {
    /// Of this world.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn of(world: &World) -> Result<Self> {
        Ok(Self(world.stack().jaeger().context("a world with a Jaeger")?.url()))
    }

    /// The trace with this id.
    ///
    /// # Errors
    ///
    /// There is none, or Jaeger can't be asked.
    pub async fn trace(&self, id: &str) -> Result<Trace> {
        let mut found = traces(&self.ask(&format!("/api/traces/{id}")).await?)?;
        found.pop().with_context(|| format!("no trace {id}"))
    }

    /// All traces, by their ids.
    ///
    /// # Errors
    ///
    /// Jaeger can't be asked.
    pub async fn traces(&self) -> Result<BTreeMap<String, Trace>> {
        let mut all = BTreeMap::new();
        for page in self.pages().await? {
            all.extend(traces(&page)?.into_iter().map(|trace| (trace.id.clone(), trace)));
        }
        Ok(all)
    }

    /// All traces, word for word: a page a service, so that some are on several.
    ///
    /// # Errors
    ///
    /// Jaeger can't be asked.
    pub async fn pages(&self) -> Result<Vec<String>> {
        let services: Answer<String> = serde_json::from_str(&self.ask("/api/services").await?)?;
        let mut pages = Vec::new();
        for service in services.data.unwrap_or_default() {
            pages.push(self.ask(&format!("/api/traces?service={service}&limit={ALL}")).await?);
        }
        Ok(pages)
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let answer = reqwest::get(format!("{}{path}", self.0)).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "GET {path} answered {status}: {text}");
        Ok(text)
    }
}

impl Trace {
    /// The span with this id.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn span(&self, id: &str) -> Result<&Span> {
        self.spans.iter().find(|span| span.id == id).with_context(|| format!("no span {id} in\n{self}"))
    }

    /// Those with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.name == name)
    }

    /// Those right below another.
    pub fn below<'a>(&'a self, parent: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(|span| span.parent.as_ref() == Some(&parent.id))
    }

    /// Who takes part.
    pub fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| span.service.as_str()).collect()
    }

    /// The one span that hangs below none, when all others hang below spans of this trace, and Jaeger finds nothing wrong.
    ///
    /// # Errors
    ///
    /// Any of that isn't so.
    pub fn root(&self) -> Result<&Span> {
        let mut roots = self.spans.iter().filter(|span| span.parent.is_none());
        let root = roots.next().with_context(|| format!("no root in\n{self}"))?;
        ensure!(roots.next().is_none(), "several roots in\n{self}");
        for span in &self.spans {
            // What comes later than its cause is no matter of clocks, which it takes it for.
            let wrong: Vec<_> = span.warnings.iter().filter(|warning| !warning.starts_with("clock skew")).collect();
            ensure!(wrong.is_empty(), "{wrong:?} of {span:?} in\n{self}");
            if let Some(parent) = &span.parent {
                ensure!(self.span(parent).is_ok(), "an orphan: {span:?} in\n{self}");
            }
        }
        Ok(root)
    }

    fn tree(&self, f: &mut fmt::Formatter<'_>, span: &Span, depth: usize) -> fmt::Result {
        writeln!(f, "{:depth$}{} {}", "", span.service, span.name)?;
        self.below(span).try_for_each(|child| self.tree(f, child, depth + 2))
    }
}

/// As a tree, for whoever reads what went wrong.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace {}:", self.id)?;
        let known: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let mut tops =
            self.spans.iter().filter(|span| span.parent.as_deref().is_none_or(|parent| !known.contains(parent)));
        tops.try_for_each(|top| self.tree(f, top, 2))
    }
}

impl Span {
    /// What it says under this name; empty if nothing.
    pub fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// Whether it failed.
    pub fn failed(&self) -> bool {
        self.tag("error") == "true" || self.tag("otel.status_code") == "ERROR"
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    /// Nothing, where a list is empty.
    data: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TraceAsTold {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<SpanAsTold>,
    processes: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanAsTold {
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(rename = "processID")]
    process_id: String,
    operation_name: String,
    start_time: u64,
    #[serde(default)]
    references: Vec<Reference>,
    #[serde(default)]
    tags: Vec<Tag>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: Value,
}

fn traces(page: &str) -> Result<Vec<Trace>> {
    let answer: Answer<TraceAsTold> = serde_json::from_str(page).with_context(|| format!("not traces: {page}"))?;
    answer.data.unwrap_or_default().into_iter().map(trace).collect()
}

fn trace(told: TraceAsTold) -> Result<Trace> {
    let TraceAsTold { trace_id, mut spans, processes } = told;
    spans.sort_by_key(|span| span.start_time);
    let spans = spans.into_iter().map(|span| {
        let process = processes.get(&span.process_id).with_context(|| format!("no process {}", span.process_id))?;
        let (parents, links): (Vec<_>, Vec<_>) =
            span.references.into_iter().partition(|reference| reference.ref_type == "CHILD_OF");
        ensure!(parents.len() <= 1, "several parents of {}", span.span_id);
        Ok(Span {
            service: process.service_name.clone(),
            name: span.operation_name,
            id: span.span_id,
            parent: parents.into_iter().next().map(|parent| parent.span_id),
            links: links.into_iter().map(|link| (link.trace_id, link.span_id)).collect(),
            tags: span.tags.into_iter().map(|tag| (tag.key, text(tag.value))).collect(),
            warnings: span.warnings.unwrap_or_default(),
        })
    });
    Ok(Trace { spans: spans.collect::<Result<_>>()?, id: trace_id })
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
