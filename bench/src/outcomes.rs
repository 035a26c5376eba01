//! What became of orders, learnt from the topic `orders` as any client of Kafka would. In: orders as they are placed.
//! Out: how long each took from when it was due to be placed until it was seen at its goal.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{lag::UpTo, load, topics};

/// How far an order is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// Its stock is held: it awaits payment.
    Reserved,
    /// The whole saga: it is paid for as soon as it awaits payment, and completed.
    Completed,
}

impl Goal {
    fn event(self) -> &'static str {
        match self {
            Self::Reserved => AWAITING_PAYMENT,
            Self::Completed => "order.completed",
        }
    }
}

const AWAITING_PAYMENT: &str = "order.awaiting_payment";

/// An order that was placed, and when it was due to be.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Its id.
    pub id: String,
    /// When its call was due.
    pub due: Instant,
}

/// What a watch came to.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// From due to seen at the goal, in microseconds.
    pub latencies: Histogram<u64>,
    /// Orders that were placed and not seen in time.
    pub missing: usize,
    /// How long after the last one was placed the last one was seen.
    pub tail: Duration,
    /// How far those have to come to whom orders that await payment mean nothing.
    pub up_to: UpTo,
}

/// Watches the topic from its present end on.
pub(crate) struct Watch {
    placed: mpsc::Sender<Placed>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<Result<Outcomes>>,
}

impl Watch {
    /// Begins to watch for this goal. Who is to pay is told the id of each order that awaits payment.
    ///
    /// # Errors
    ///
    /// The topic can't be read.
    pub(crate) fn begin(brokers: &str, topic: &str, goal: Goal, awaiting: UnboundedSender<String>) -> Result<Self> {
        let consumer: BaseConsumer = topics::reader(brokers).set("fetch.wait.max.ms", "10").create()?;
        consumer.assign(&topics::from(&consumer, topic, false)?)?;
        let (placed, waiting) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let thread = {
            let done = done.clone();
            std::thread::spawn(move || watch(&consumer, goal, &awaiting, &waiting, &done))
        };
        Ok(Self { placed, done, thread })
    }

    /// Where placed orders are announced.
    pub(crate) fn placed(&self) -> mpsc::Sender<Placed> {
        self.placed.clone()
    }

    /// Waits, within bounds, until all that was placed was seen.
    ///
    /// # Errors
    ///
    /// The topic could not be read.
    pub(crate) fn end(self) -> Result<Outcomes> {
        self.done.store(true, Ordering::Release);
        drop(self.placed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

/// How long after the end what is missing is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

fn watch(
    consumer: &BaseConsumer,
    goal: Goal,
    awaiting: &UnboundedSender<String>,
    waiting: &mpsc::Receiver<Placed>,
    done: &AtomicBool,
) -> Result<Outcomes> {
    let mut latencies = load::histogram()?;
    // An order may be seen before its caller has heard of it.
    let (mut due, mut seen): (HashMap<String, Instant>, HashMap<String, Instant>) = (HashMap::new(), HashMap::new());
    let mut ended: Option<Instant> = None;
    let mut last_seen = Instant::now();
    let mut up_to = UpTo::new();
    loop {
        for placed in waiting.try_iter() {
            match seen.remove(&placed.id) {
                Some(at) => latencies.saturating_record(micros(at, placed.due)),
                None => {
                    due.insert(placed.id, placed.due);
                }
            }
        }
        if done.load(Ordering::Acquire) {
            let since = *ended.get_or_insert_with(Instant::now);
            if due.is_empty() || since.elapsed() > PATIENCE {
                let tail = last_seen.saturating_duration_since(since);
                return Ok(Outcomes { latencies, missing: due.len(), tail, up_to });
            }
        }
        let mut polled = consumer.poll(Duration::from_millis(2));
        while let Some(message) = polled {
            let message = message?;
            let at = Instant::now();
            let kind = message.headers().and_then(|headers| headers.iter().find(|header| header.key == "ce_type"));
            let kind = kind.and_then(|header| header.value);
            let id = || String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
            if kind == Some(AWAITING_PAYMENT.as_bytes()) {
                // Nobody pays any more when the run is over.
                let _ = awaiting.send(id());
            } else {
                up_to.insert(message.partition(), message.offset() + 1);
            }
            if kind == Some(goal.event().as_bytes()) {
                let id = id();
                last_seen = at;
                match due.remove(&id) {
                    Some(due) => latencies.saturating_record(micros(at, due)),
                    None => {
                        seen.insert(id, at);
                    }
                }
            }
            polled = consumer.poll(Duration::ZERO);
        }
    }
}

fn micros(at: Instant, due: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX).max(1)
}
