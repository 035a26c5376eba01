//! The rules of payments, pure: who may pay what, what became of the money, and when it goes back.
//!
//! An aggregate is an order's account: this service's copy of the order, and all payments of it. The copy lags; that is
//! why money may be taken for an order that has ended by then, and why it then goes back.

use std::time::Duration;

use shared::{
    clock::Timestamp,
    command::{self, Domain},
    id::Id,
    money::Money,
    telemetry::TraceContext,
    user::UserId,
    version::Version,
};

use crate::provider::KEYS_KNOWN_FOR;

/// Marks ids of orders.
pub enum OrderKind {}
/// An order's id.
pub type OrderId = Id<OrderKind>;
/// Marks ids of payments.
pub enum PaymentKind {}
/// A payment's id.
pub type PaymentId = Id<PaymentKind>;

/// How long whoever has begun to call the provider has to come back with an answer, before somebody else asks again:
/// longer than a call may take.
pub const LEASE: Duration = Duration::from_secs(20);
/// How soon the provider is asked again after its first answer that settled nothing; twice as long after each more.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long it is waited at most before it is asked again.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// An order's account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The order, as it was last heard of.
    pub order: Order,
    /// All attempts to pay it, the oldest first. At most one of them has not failed.
    pub payments: Vec<Payment>,
}

/// This service's copy of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The buyer.
    pub user: UserId,
    /// What is to be paid, at least 0.
    pub total: Money,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Which of its states this is.
    pub version: Version,
    /// The trace in which its story is told.
    pub trace: TraceContext,
}

/// Where an order is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Placed; whether there is stock is not known yet.
    Created,
    /// Stock is held: it can be paid.
    AwaitingPayment,
    /// Paid. Final.
    Completed,
    /// Ended without a sale: what was paid goes back. Final.
    Cancelled,
}

/// An attempt to pay an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment {
    /// Its id. The provider's idempotency keys are made of it, so they are fixed before the provider is called.
    pub id: PaymentId,
    /// How the buyer pays, in the provider's words.
    pub method: String,
    /// What became of it.
    pub status: Status,
    /// Who moves the money.
    pub provider: String,
    /// The provider's own id of the charge, once money was taken.
    pub reference: Option<String>,
    /// While the provider has something to answer: how often it was asked, and when it is to be asked again.
    pub inquiry: Inquiry,
    /// The account's version when this payment's state changed last.
    pub version: Version,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub updated_at: Timestamp,
}

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A charge has begun. Only the provider's definite answer ends this, never the passing of time.
    Pending,
    /// The money was taken.
    Succeeded,
    /// No money was taken, and why, in the provider's words. Final.
    Failed(String),
    /// The money is on its way back.
    RefundPending,
    /// The money went back. Final.
    Refunded,
}

/// How the provider is asked for what it owes an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// How often it was asked.
    pub tries: u32,
    /// With which of the payment's idempotency keys, from 1. A key is given up only for certain that nothing was done
    /// under it.
    pub key_number: u32,
    /// Since when that key is in use. Providers forget keys.
    pub keyed_at: Timestamp,
    /// Since when the provider is only searched for what was done under that key; `None` while the request itself is repeated,
    /// which would tell no more by then, or do harm.
    pub looking_since: Option<Timestamp>,
    /// When it is to be asked again, unless it has answered by then.
    pub next_try_at: Timestamp,
}

impl Inquiry {
    /// To be asked for the first time at `next_try_at`.
    fn new(now: Timestamp, tries: u32, next_try_at: Timestamp) -> Self {
        Self { tries, key_number: 1, keyed_at: now, looking_since: None, next_try_at }
    }

    /// Asked once more, by somebody who has a lease's time for it.
    fn again(self, now: Timestamp) -> Self {
        let old = (now - self.keyed_at).to_std().is_ok_and(|age| age >= KEYS_KNOWN_FOR);
        Self {
            tries: self.tries.saturating_add(1),
            looking_since: self.looking_since.or(old.then_some(now)),
            next_try_at: now + LEASE,
            ..self
        }
    }
}

/// What is asked of this service.
#[derive(Clone, Debug)]
pub enum Command {
    /// An order was heard of, and perhaps is newer than the copy of it.
    CopyOrder(Order),
    /// A buyer pays.
    Pay {
        /// The payment's id to be.
        id: PaymentId,
        /// Which order.
        order: OrderId,
        /// Who asks.
        user: UserId,
        /// How, in the provider's words.
        method: String,
        /// Who moves the money.
        provider: String,
    },
    /// The provider is asked again, by whoever does this.
    Ask {
        /// Of which order.
        order: OrderId,
        /// Which payment.
        payment: PaymentId,
    },
    /// The provider has said something.
    Heard {
        /// Of which order.
        order: OrderId,
        /// Of which payment.
        payment: PaymentId,
        /// Asked with which of its keys.
        key: u32,
        /// What.
        answer: Answer,
    },
}

/// What the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has taken the money.
    Charged {
        /// Its own id of the charge.
        reference: String,
    },
    /// It has taken no money, and never will for this payment.
    Declined {
        /// Its code for why.
        reason: String,
    },
    /// It has given the money back.
    Refunded,
    /// Nothing that settles the matter.
    Unsettled {
        /// How soon it may be asked again at the earliest, if it said so.
        retry_after: Option<Duration>,
    },
    /// Always the same under this key, and nothing that settles the matter: it can only be looked for what was done.
    Stuck,
    /// That nothing was done under this key, and never will be.
    KeySpent,
}

impl Command {
    /// The order whose account it is about.
    pub fn order(&self) -> OrderId {
        match self {
            Self::CopyOrder(order) => order.id,
            Self::Pay { order, .. } | Self::Ask { order, .. } | Self::Heard { order, .. } => *order,
        }
    }

    /// The payment that it is about, if it is about one.
    pub fn payment(&self) -> Option<PaymentId> {
        match self {
            Self::CopyOrder(_) => None,
            Self::Pay { id, .. } => Some(*id),
            Self::Ask { payment, .. } | Self::Heard { payment, .. } => Some(*payment),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The copy of an order is this from now on.
    OrderCopied(Order),
    /// A charge has begun.
    Created(Payment),
    /// The money was taken.
    Succeeded {
        /// By which payment.
        payment: PaymentId,
        /// The provider's own id of the charge, if a provider was needed.
        reference: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// No money was taken.
    Failed {
        /// By which payment.
        payment: PaymentId,
        /// Why, in the provider's words.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Money that was taken is to go back.
    RefundStarted {
        /// Of which payment.
        payment: PaymentId,
        /// When.
        at: Timestamp,
    },
    /// It went back.
    Refunded {
        /// Of which payment.
        payment: PaymentId,
        /// When.
        at: Timestamp,
    },
    /// The provider is asked once more, or is to be. No change that anybody else would notice.
    InquiryChanged {
        /// About which payment.
        payment: PaymentId,
        /// How often, and when again.
        inquiry: Inquiry,
    },
}

/// Why a command is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such order, or it is another's, or it was not heard of, yet.
    NotFound,
    /// The order holds no stock yet.
    NotPayableYet,
    /// The order has ended.
    NotPayable,
    /// It was paid.
    AlreadyPaid,
    /// A charge of this order has begun, and may still succeed.
    PaymentInProgress,
    /// An answer to a question that nobody asked. Never happens unless something is very wrong.
    NoSuchPayment,
    /// Money was taken by a payment of which the provider had said that it never would be: its fault. Somebody
    /// is woken, and settles it by hand.
    Contradiction,
}

impl command::Refusal for Refusal {
    const REASONS: &'static [&'static str] =
        &["NOT_FOUND", "ORDER_NOT_PAYABLE", "ALREADY_PAID", "PAYMENT_IN_PROGRESS", "NO_SUCH_PAYMENT", "CONTRADICTION"];

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::NotPayableYet | Self::NotPayable => "ORDER_NOT_PAYABLE",
            Self::AlreadyPaid => "ALREADY_PAID",
            Self::PaymentInProgress => "PAYMENT_IN_PROGRESS",
            Self::NoSuchPayment => "NO_SUCH_PAYMENT",
            Self::Contradiction => "CONTRADICTION",
        }
    }
}

/// The service, as the engine knows it.
pub struct Payments;

impl Domain for Payments {
    type State = Option<Account>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &Option<Account>, command: &Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::CopyOrder(order) => Ok(copy_order(state.as_ref(), order, now)),
            Command::Pay { id, user, method, provider, .. } => {
                let account = state.as_ref().filter(|account| account.order.user == *user).ok_or(Refusal::NotFound)?;
                if account.payment(*id).is_some() {
                    return Ok(vec![]);
                }
                payable(account)?;
                Ok(begin(account, *id, method, provider, now))
            }
            Command::Ask { payment, .. } => {
                let payment = known(state, *payment)?;
                match payment.status {
                    Status::Pending | Status::RefundPending => {
                        Ok(vec![Event::InquiryChanged { payment: payment.id, inquiry: payment.inquiry.again(now) }])
                    }
                    Status::Succeeded | Status::Failed(_) | Status::Refunded => Ok(vec![]),
                }
            }
            Command::Heard { payment, key, answer, .. } => {
                let cancelled = cancelled(state);
                let payment = known(state, *payment)?;
                match answer {
                    // Of a key that was given up meanwhile: the one in use may be under way.
                    Answer::Stuck | Answer::KeySpent if payment.inquiry.key_number != *key => Ok(vec![]),
                    answer => hear(payment, answer, cancelled, now),
                }
            }
        }
    }

    fn apply(state: Option<Account>, event: &Event) -> Option<Account> {
        let Some(mut account) = state else {
            return match event {
                Event::OrderCopied(order) => Some(Account { order: order.clone(), payments: Vec::new() }),
                _ => None,
            };
        };
        match event {
            Event::OrderCopied(order) => {
                // Its story began where it was heard of first.
                let trace = account.order.trace;
                account.order = Order { trace, ..order.clone() };
            }
            Event::Created(payment) => {
                let version = account.version().next();
                account.payments.push(Payment { version, ..payment.clone() });
            }
            Event::Succeeded { payment, reference, at } => account.change(*payment, *at, |payment| {
                payment.status = Status::Succeeded;
                payment.reference.clone_from(reference);
            }),
            Event::Failed { payment, reason, at } => {
                account.change(*payment, *at, |payment| payment.status = Status::Failed(reason.clone()));
            }
            Event::RefundStarted { payment, at } => account.change(*payment, *at, |payment| {
                payment.status = Status::RefundPending;
                payment.inquiry = Inquiry::new(*at, 0, *at);
            }),
            Event::Refunded { payment, at } => {
                account.change(*payment, *at, |payment| payment.status = Status::Refunded);
            }
            Event::InquiryChanged { payment, inquiry } => {
                if let Some(payment) = account.payment_mut(*payment) {
                    payment.inquiry = *inquiry;
                }
            }
        }
        Some(account)
    }
}

impl Account {
    /// Counts the changes of its payments' states.
    pub fn version(&self) -> Version {
        self.payments.iter().map(|payment| payment.version).max().unwrap_or(Version::NONE)
    }

    /// The payment with this id.
    pub fn payment(&self, id: PaymentId) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.id == id)
    }

    fn payment_mut(&mut self, id: PaymentId) -> Option<&mut Payment> {
        self.payments.iter_mut().find(|payment| payment.id == id)
    }

    fn change(&mut self, id: PaymentId, at: Timestamp, change: impl FnOnce(&mut Payment)) {
        let version = self.version().next();
        if let Some(payment) = self.payment_mut(id) {
            change(payment);
            payment.version = version;
            payment.updated_at = at;
        }
    }
}

/// An order was heard of. An older version doesn't replace the copy. Whether money goes back is decided every time, from the
/// account: a late or repeated message still begins a refund that is missing.
fn copy_order(account: Option<&Account>, order: &Order, now: Timestamp) -> Vec<Event> {
    let newer = account.is_none_or(|account| account.order.version < order.version);
    let mut events: Vec<Event> = newer.then(|| Event::OrderCopied(order.clone())).into_iter().collect();
    if let Some(account) = account {
        let status = if newer { order.status } else { account.order.status };
        if status == OrderStatus::Cancelled {
            let taken = account.payments.iter().filter(|payment| payment.status == Status::Succeeded);
            events.extend(taken.flat_map(|payment| give_back(payment, now)));
        }
    }
    events
}

/// What was taken is to go back. Where nothing was, there is nobody to ask for it.
fn give_back(payment: &Payment, now: Timestamp) -> Vec<Event> {
    let payment_id = payment.id;
    let mut events = vec![Event::RefundStarted { payment: payment_id, at: now }];
    if payment.reference.is_none() {
        events.push(Event::Refunded { payment: payment_id, at: now });
    }
    events
}

/// Whether this order can be paid now.
fn payable(account: &Account) -> Result<(), Refusal> {
    let is = |status: fn(&Status) -> bool| account.payments.iter().any(|payment| status(&payment.status));
    match account.order.status {
        OrderStatus::Created => Err(Refusal::NotPayableYet),
        OrderStatus::Cancelled => Err(Refusal::NotPayable),
        OrderStatus::Completed => Err(Refusal::AlreadyPaid),
        OrderStatus::AwaitingPayment if is(|status| matches!(status, Status::Pending)) => {
            Err(Refusal::PaymentInProgress)
        }
        OrderStatus::AwaitingPayment if is(|status| !matches!(status, Status::Failed(_))) => Err(Refusal::AlreadyPaid),
        OrderStatus::AwaitingPayment => Ok(()),
    }
}

/// A charge begins; or, where there is nothing to pay, is done at once.
fn begin(account: &Account, id: PaymentId, method: &str, provider: &str, now: Timestamp) -> Vec<Event> {
    let free = account.order.total.minor_units() == 0;
    let payment = Payment {
        id,
        method: method.to_owned(),
        status: Status::Pending,
        provider: if free { String::new() } else { provider.to_owned() },
        reference: None,
        // Whoever has begun it calls first.
        inquiry: Inquiry::new(now, 1, now + LEASE),
        version: Version::NONE,
        created_at: now,
        updated_at: now,
    };
    let mut events = vec![Event::Created(payment)];
    if free {
        events.push(Event::Succeeded { payment: id, reference: None, at: now });
    }
    events
}

/// What the provider says of a payment. It may say so several times, and late.
fn hear(payment: &Payment, answer: &Answer, cancelled: bool, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    let id = payment.id;
    Ok(match (&payment.status, answer) {
        (Status::Pending, Answer::Charged { reference }) => {
            let reference = Some(reference.clone());
            let mut events = vec![Event::Succeeded { payment: id, reference, at: now }];
            if cancelled {
                events.push(Event::RefundStarted { payment: id, at: now });
            }
            events
        }
        (Status::Pending, Answer::Declined { reason }) => {
            vec![Event::Failed { payment: id, reason: reason.clone(), at: now }]
        }
        (Status::RefundPending, Answer::Refunded) => vec![Event::Refunded { payment: id, at: now }],
        (Status::Pending | Status::RefundPending, Answer::Unsettled { retry_after }) => {
            let wait = backoff(payment.inquiry.tries).max(retry_after.unwrap_or_default());
            vec![Event::InquiryChanged { payment: id, inquiry: Inquiry { next_try_at: now + wait, ..payment.inquiry } }]
        }
        (Status::Pending | Status::RefundPending, Answer::Stuck) => {
            let (looking_since, next_try_at) =
                (payment.inquiry.looking_since.or(Some(now)), now + backoff(payment.inquiry.tries));
            vec![Event::InquiryChanged {
                payment: id,
                inquiry: Inquiry { looking_since, next_try_at, ..payment.inquiry },
            }]
        }
        (Status::Pending | Status::RefundPending, Answer::KeySpent) => {
            let key_number = payment.inquiry.key_number.saturating_add(1);
            vec![Event::InquiryChanged {
                payment: id,
                inquiry: Inquiry {
                    key_number,
                    keyed_at: now,
                    looking_since: None,
                    next_try_at: now,
                    ..payment.inquiry
                },
            }]
        }
        (Status::Failed(_), Answer::Charged { .. }) => return Err(Refusal::Contradiction),
        // An echo of what is known.
        _ => vec![],
    })
}

fn backoff(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY)
}

fn cancelled(state: &Option<Account>) -> bool {
    state.as_ref().is_some_and(|account| account.order.status == OrderStatus::Cancelled)
}

fn known(state: &Option<Account>, payment: PaymentId) -> Result<&Payment, Refusal> {
    state.as_ref().and_then(|account| account.payment(payment)).ok_or(Refusal::NoSuchPayment)
}
