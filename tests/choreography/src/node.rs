//! A service in memory: its rules, and a map for each of its tables.

use std::{collections::HashMap, fmt::Debug, hash::Hash};

use expiration::domain::{Expiration, Expirations};
use orders::domain::{Command as OrderCommand, Order, OrderId, Orders, State as OrderState, Ticket as TicketCopy};
use payments::domain::{Account, Payments};
use shared::{
    clock::Timestamp,
    command::{Message, Publish},
    inbox::Undecodable,
};
use tickets::domain::{Reservation, State as TicketState, Ticket, TicketId, Tickets};

/// Where a service's states are kept.
pub(crate) trait Tables<S: Publish>: Default {
    /// What a command is decided on.
    fn state(&self, command: &S::Command) -> S::State;
    /// That state, after the command.
    fn keep(&mut self, command: &S::Command, state: S::State);
}

/// Decides a command on what the tables hold, as the engine does, and gives the messages that it leads to.
pub(crate) fn handle<S: Publish>(
    tables: &mut impl Tables<S>,
    command: &S::Command,
    now: Timestamp,
) -> Result<Vec<Message>, S::Refusal> {
    let mut state = tables.state(command);
    let mut messages = Vec::new();
    for event in S::decide(&state, command, now)? {
        state = S::apply(state, &event);
        messages.extend(S::publish(&state, &event));
    }
    tables.keep(command, state);
    Ok(messages)
}

/// Does all that a message was read as, and gives the messages that it leads to; or says why its partition would stop.
pub(crate) fn handle_all<S: Publish<Command: Debug>>(
    tables: &mut impl Tables<S>,
    commands: Result<Vec<S::Command>, Undecodable>,
    now: Timestamp,
) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    for command in commands.map_err(|why| why.to_string())? {
        let led_to = handle::<S>(tables, &command, now);
        messages.extend(led_to.map_err(|refusal| format!("{command:?} is refused: {refusal:?}"))?);
    }
    Ok(messages)
}

#[derive(Debug, Default)]
pub(crate) struct TicketTables {
    pub(crate) tickets: HashMap<TicketId, Ticket>,
    pub(crate) reservations: HashMap<tickets::domain::OrderId, Reservation>,
}

impl Tables<Tickets> for TicketTables {
    fn state(&self, command: &tickets::domain::Command) -> TicketState {
        TicketState {
            ticket: self.tickets.get(&command.ticket()).cloned(),
            reservation: command.order().and_then(|order| self.reservations.get(&order)).cloned(),
        }
    }

    fn keep(&mut self, command: &tickets::domain::Command, state: TicketState) {
        keep(&mut self.tickets, command.ticket(), state.ticket);
        if let Some(order) = command.order() {
            keep(&mut self.reservations, order, state.reservation);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct OrderTables {
    pub(crate) orders: HashMap<OrderId, Order>,
    pub(crate) tickets: HashMap<orders::domain::TicketId, TicketCopy>,
}

impl Tables<Orders> for OrderTables {
    fn state(&self, command: &OrderCommand) -> OrderState {
        OrderState {
            order: command.order().and_then(|id| self.orders.get(&id)).cloned(),
            ticket: command.ticket().and_then(|id| self.tickets.get(&id)).cloned(),
        }
    }

    fn keep(&mut self, command: &OrderCommand, state: OrderState) {
        if let Some(id) = command.order() {
            keep(&mut self.orders, id, state.order);
        }
        if let Some(id) = command.ticket() {
            keep(&mut self.tickets, id, state.ticket);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct AccountTable(pub(crate) HashMap<payments::domain::OrderId, Account>);

impl Tables<Payments> for AccountTable {
    fn state(&self, command: &payments::domain::Command) -> Option<Account> {
        self.0.get(&command.order()).cloned()
    }

    fn keep(&mut self, command: &payments::domain::Command, state: Option<Account>) {
        keep(&mut self.0, command.order(), state);
    }
}

#[derive(Debug, Default)]
pub(crate) struct TimerTable(pub(crate) HashMap<expiration::domain::OrderId, Expiration>);

impl Tables<Expirations> for TimerTable {
    fn state(&self, command: &expiration::domain::Command) -> Option<Expiration> {
        self.0.get(&command.order()).cloned()
    }

    fn keep(&mut self, command: &expiration::domain::Command, state: Option<Expiration>) {
        keep(&mut self.0, command.order(), state);
    }
}

fn keep<K: Eq + Hash, V>(table: &mut HashMap<K, V>, key: K, row: Option<V>) {
    if let Some(row) = row {
        table.insert(key, row);
    }
}
