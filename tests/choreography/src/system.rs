//! All services and the topics between them.

use std::{collections::BTreeSet, time::Duration};

use contracts::payments::v1::PaymentEvent;
use expiration::domain::{Command as TimerCommand, Expirations, Status as TimerStatus};
use orders::domain::{
    Command as OrderCommand, Create, Order, OrderId, Orders, Refusal as OrderRefusal, Status as OrderStatus,
};
use payments::domain::{
    Account, Command as PaymentCommand, OrderStatus as CopiedStatus, PaymentId, Payments, Refusal as PaymentRefusal,
};
use prost::Message as _;
use shared::{
    clock::Timestamp, command::Message, inbox::Delivery, money::Money, telemetry::TraceContext, user::UserId,
};
use tickets::domain::{Command as TicketCommand, Edit, Refusal as TicketRefusal, Ticket, TicketId, Tickets};

use crate::{
    node::{self, AccountTable, OrderTables, TicketTables, TimerTable},
    provider::{Money as Moved, Provider},
};

/// A consumer group, by what it reads and who reacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the contract names them")]
pub enum Group {
    TicketsOrders,
    PaymentsOrders,
    ExpirationOrders,
    OrdersTickets,
    OrdersPayments,
    OrdersExpiration,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TicketsOrders,
        Self::PaymentsOrders,
        Self::ExpirationOrders,
        Self::OrdersTickets,
        Self::OrdersPayments,
        Self::OrdersExpiration,
    ];

    fn reads(self) -> Topic {
        match self {
            Self::TicketsOrders | Self::PaymentsOrders | Self::ExpirationOrders => Topic::Orders,
            Self::OrdersTickets => Topic::Tickets,
            Self::OrdersPayments => Topic::Payments,
            Self::OrdersExpiration => Topic::Expiration,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Tickets,
    Orders,
    Payments,
    Expiration,
}

/// Everything: databases, topics, and what each group has yet to see.
#[derive(Debug, Default)]
pub struct System {
    tickets: TicketTables,
    orders: OrderTables,
    accounts: AccountTable,
    timers: TimerTable,
    provider: Provider,
    log: Vec<(Topic, Message)>,
    seen: BTreeSet<(Group, usize)>,
    seconds: i64,
}

/// How long an order waits to be paid.
const TTL: Duration = Duration::from_secs(120);

impl System {
    /// A moment later than the last.
    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::UNIX_EPOCH + Duration::from_secs(self.seconds.unsigned_abs())
    }

    fn publish(&mut self, topic: Topic, messages: Vec<Message>) {
        self.log.extend(messages.into_iter().map(|message| (topic, message)));
    }

    /// A seller lists a ticket.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn list(&mut self, price: Money, quantity: i32) -> Result<TicketId, TicketRefusal> {
        let id = TicketId::new();
        let (seller, title) = (UserId::from_stored("alice"), "Concert".to_owned());
        self.ticket(&TicketCommand::Create { id, seller, title, price, quantity })?;
        Ok(id)
    }

    /// The seller changes a ticket.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn edit(&mut self, id: TicketId, edit: Edit) -> Result<(), TicketRefusal> {
        self.ticket(&TicketCommand::Edit { id, seller: UserId::from_stored("alice"), edit, expected_revision: None })
    }

    /// The seller ends a ticket's sale.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn withdraw(&mut self, id: TicketId) -> Result<(), TicketRefusal> {
        self.ticket(&TicketCommand::Withdraw { id, seller: UserId::from_stored("alice") })
    }

    fn ticket(&mut self, command: &TicketCommand) -> Result<(), TicketRefusal> {
        let now = self.now();
        let messages = node::handle::<Tickets>(&mut self.tickets, command, now)?;
        self.publish(Topic::Tickets, messages);
        Ok(())
    }

    /// A buyer orders, at the price that orders' copy has.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn place(&mut self, ticket: TicketId, quantity: i32) -> Result<OrderId, OrderRefusal> {
        let id = OrderId::new();
        let create = Create {
            id,
            user: UserId::from_stored("bob"),
            ticket: orders::domain::TicketId::from_uuid(ticket.uuid()),
            quantity,
            unit_price: None,
            ttl: TTL,
            trace: TraceContext::root(),
        };
        self.order_command(&OrderCommand::Create(create))?;
        Ok(id)
    }

    /// The buyer cancels.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn cancel(&mut self, id: OrderId) -> Result<(), OrderRefusal> {
        self.order_command(&OrderCommand::Cancel { id, user: UserId::from_stored("bob") })
    }

    fn order_command(&mut self, command: &OrderCommand) -> Result<(), OrderRefusal> {
        let now = self.now();
        let messages = node::handle::<Orders>(&mut self.orders, command, now)?;
        self.publish(Topic::Orders, messages);
        Ok(())
    }

    /// The buyer pays by this method.
    ///
    /// # Errors
    ///
    /// The domain's.
    pub fn pay(&mut self, order: OrderId, method: &str) -> Result<PaymentId, PaymentRefusal> {
        let (id, order) = (PaymentId::new(), payments::domain::OrderId::from_uuid(order.uuid()));
        let (user, method, provider) = (UserId::from_stored("bob"), method.to_owned(), "memory".to_owned());
        self.account(&PaymentCommand::Pay { id, order, user, method, provider })?;
        Ok(id)
    }

    /// The provider is asked about a payment; its answer gets lost, or is heard, once or twice.
    ///
    /// # Errors
    ///
    /// The answer is refused.
    pub fn ask(&mut self, id: PaymentId, heard: usize) -> Result<(), PaymentRefusal> {
        let found = self.accounts.0.values().find_map(|account| Some((account.order.id, account.payment(id)?.clone())));
        let Some((order, payment)) = found else { return Ok(()) };
        self.account(&PaymentCommand::Ask { order, payment: id })?;
        let Some(answer) = self.provider.ask(&payment) else { return Ok(()) };
        let heard_of = PaymentCommand::Heard { order, payment: id, key: payment.inquiry.key_number, answer };
        (0..heard).try_for_each(|_| self.account(&heard_of))
    }

    /// The provider is asked about all that it owes an answer to.
    ///
    /// # Errors
    ///
    /// An answer is refused.
    pub fn ask_all(&mut self) -> Result<(), PaymentRefusal> {
        let payments = self.accounts.0.values().flat_map(|account| &account.payments);
        let ids: Vec<PaymentId> = payments.map(|payment| payment.id).collect();
        ids.into_iter().try_for_each(|id| self.ask(id, 1))
    }

    fn account(&mut self, command: &PaymentCommand) -> Result<(), PaymentRefusal> {
        let now = self.now();
        let messages = node::handle::<Payments>(&mut self.accounts, command, now)?;
        self.publish(Topic::Payments, messages);
        Ok(())
    }

    /// A timer is due. Fires it, if it is set.
    pub fn fire(&mut self, id: OrderId) {
        let now = self.now();
        let command = TimerCommand::Fire(expiration::domain::OrderId::from_uuid(id.uuid()));
        let Ok(messages) = node::handle::<Expirations>(&mut self.timers, &command, now);
        self.publish(Topic::Expiration, messages);
    }

    /// Every timer that is still set is due.
    pub fn fire_all(&mut self) {
        let set = self.timers.0.values().filter(|timer| timer.status == TimerStatus::Scheduled);
        let set: Vec<OrderId> = set.map(|timer| OrderId::from_uuid(timer.order.uuid())).collect();
        set.into_iter().for_each(|id| self.fire(id));
    }

    /// What a group could be given now: every message of its topic, seen or not.
    pub fn deliverable(&self, group: Group) -> Vec<usize> {
        let of_topic = |index: &usize| self.log[*index].0 == group.reads();
        (0..self.log.len()).filter(of_topic).collect()
    }

    /// Gives a group one message. Nothing that a service has said may be impossible to another.
    ///
    /// # Errors
    ///
    /// The message can't be read or the command that it leads to is refused: the partition would stop.
    pub fn deliver(&mut self, group: Group, index: usize) -> Result<(), String> {
        let (_, message) = self.log[index].clone();
        let trace = TraceContext::root();
        let delivery = Delivery { key: message.key.as_bytes(), payload: &message.payload, trace: &trace };
        let now = self.now();
        let (topic, led_to) = match group {
            Group::TicketsOrders => {
                let commands = tickets::events::react_to_orders(&delivery);
                (Topic::Tickets, node::handle_all::<Tickets>(&mut self.tickets, commands, now))
            }
            Group::PaymentsOrders => {
                let commands = payments::events::react_to_orders(&delivery);
                (Topic::Payments, node::handle_all::<Payments>(&mut self.accounts, commands, now))
            }
            Group::ExpirationOrders => {
                let commands = expiration::events::react_to_orders(&delivery);
                (Topic::Expiration, node::handle_all::<Expirations>(&mut self.timers, commands, now))
            }
            Group::OrdersTickets => {
                let commands = orders::events::react_to_tickets(&delivery);
                (Topic::Orders, node::handle_all::<Orders>(&mut self.orders, commands, now))
            }
            Group::OrdersPayments => {
                let commands = orders::events::react_to_payments(&delivery);
                (Topic::Orders, node::handle_all::<Orders>(&mut self.orders, commands, now))
            }
            Group::OrdersExpiration => {
                let commands = orders::events::react_to_expiration(&delivery);
                (Topic::Orders, node::handle_all::<Orders>(&mut self.orders, commands, now))
            }
        };
        let messages = led_to.map_err(|why| format!("{group:?} can't handle {}: {why}", message.kind))?;
        self.publish(topic, messages);
        self.seen.insert((group, index));
        Ok(())
    }

    /// Gives every group all that it has not seen, until nothing new comes of it.
    ///
    /// # Errors
    ///
    /// See [`deliver`](Self::deliver).
    pub fn settle(&mut self) -> Result<(), String> {
        loop {
            let all =
                Group::ALL.into_iter().flat_map(|group| self.deliverable(group).into_iter().map(move |at| (group, at)));
            let unseen: Vec<_> = all.filter(|delivery| !self.seen.contains(delivery)).collect();
            if unseen.is_empty() {
                return Ok(());
            }
            for (group, index) in unseen {
                self.deliver(group, index)?;
            }
        }
    }

    /// All orders.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.orders.values()
    }

    /// All tickets.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.tickets.values()
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.0.values()
    }

    /// What the provider has done for a payment, if it was asked.
    pub fn money(&self, payment: PaymentId) -> Option<Moved> {
        self.provider.0.get(&payment).copied()
    }

    /// How orders' copy of a ticket differs from the ticket, if it does.
    pub fn stale_copy(&self, ticket: &Ticket) -> Option<String> {
        let copy = self.orders.tickets.get(&orders::domain::TicketId::from_uuid(ticket.id.uuid()));
        match copy {
            Some(copy) if copy.version == ticket.version && copy.available == ticket.available() => None,
            copy => Some(format!("{copy:?} is not {ticket:?}")),
        }
    }

    /// How payments' copy of an order differs from the order, if it does.
    pub fn stale_account(&self, order: &Order) -> Option<String> {
        let copy = self.accounts.0.get(&payments::domain::OrderId::from_uuid(order.id.uuid()));
        let status = match order.status {
            OrderStatus::Created => CopiedStatus::Created,
            OrderStatus::AwaitingPayment => CopiedStatus::AwaitingPayment,
            OrderStatus::Completed => CopiedStatus::Completed,
            OrderStatus::Cancelled(_) => CopiedStatus::Cancelled,
        };
        let told = (order.version, &order.user, order.total_price, status);
        match copy.map(|account| &account.order) {
            Some(copy) if (copy.version, &copy.user, copy.total, copy.status) == told => None,
            copy => Some(format!("{copy:?} is not {order:?}")),
        }
    }

    /// The versions of payments' messages about one order, in the order in which they were published.
    pub fn account_versions(&self, key: &str) -> Vec<i64> {
        let of_key = self.log.iter().filter(|(topic, message)| *topic == Topic::Payments && message.key == key);
        of_key.filter_map(|(_, message)| Some(PaymentEvent::decode(message.payload.as_slice()).ok()?.version)).collect()
    }

    /// The versions of a topic's messages about one key, in the order in which they were published: of orders and
    /// tickets, as their messages have them.
    pub fn versions(&self, key: &str) -> Vec<i64> {
        let of_key = self.log.iter().filter(|(_, message)| message.key == key);
        of_key
            .filter_map(|(topic, message)| match topic {
                Topic::Orders => {
                    Some(contracts::orders::v1::OrderEvent::decode(message.payload.as_slice()).ok()?.version)
                }
                Topic::Tickets if message.kind != "ticket.reservation_rejected" => {
                    Some(contracts::tickets::v1::TicketEvent::decode(message.payload.as_slice()).ok()?.version)
                }
                _ => None,
            })
            .collect()
    }
}
