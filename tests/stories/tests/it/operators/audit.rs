//! The auditor: silent about a system that is well, and about nothing else. Whatever is changed behind the services' backs,
//! it names that, and what follows from it, and no more.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use audit::{
    About::{self, Service, Topic},
    PATIENCE,
    Rule::{
        self, Account, Events, Money, NoSuchOrder, Outbox, Overdue, Oversold, Payment, Reason, Reservation, Stock,
        TicketCopy, Timer, Told, Undecided,
    },
    Sources, look,
};
use contracts::{
    expiration::v1::ExpirationStatus,
    orders::v1::{CancelReason, Order, OrderEvent, OrderStatus},
    payments::v1::PaymentStatus,
    tickets::v1::{Ticket, TicketEvent},
};
use prost::Message;
use stories::{
    Ledger, SERVICES, User, World,
    audit::sources,
    delay::{self, Delay},
    history::{self, Event},
    program,
    tampering::{self, Tables},
};
use uuid::Uuid;

/// Long enough to order and pay on a busy machine.
const TTL: &str = "20s";

/// One order that ended in each way there is, and one that is open for a day.
struct Orders {
    ticket: Ticket,
    paid: Order,
    /// Others like it, each to be tampered with where that can't be undone.
    more_paid: Vec<Order>,
    free: Order,
    cancelled: Order,
    sold_out: Order,
    expired: Order,
    refunded: Order,
    open: Order,
}

impl Orders {
    async fn live(world: &World) -> Result<Self> {
        let (alice, bob) = (world.user("alice")?, world.user("bob")?);
        let ticket = alice.lists("Concert", 29900, 50).await?;
        let expired = bob.places(&ticket, 2).await?;
        let refunded = bob.places(&ticket, 1).await?;
        bob.awaits_order(&refunded.id, OrderStatus::AwaitingPayment).await?;
        bob.pays(&refunded.id, "pm_sandbox_slow").await?;

        let open = bob.places(&ticket, 3).await?;
        bob.awaits_order(&open.id, OrderStatus::AwaitingPayment).await?;
        world.operator()?.awaits_timer(&open.id, ExpirationStatus::Scheduled).await?;
        for (service, table, key) in [("expiration", "expirations", "order_id"), ("orders", "orders", "id")] {
            let tomorrow = format!("UPDATE {table} SET expires_at = '2100-01-01' WHERE {key} = '{}'", open.id);
            delay::connect(world, service).await?.batch_execute(&tomorrow).await?;
        }

        let paid = buys(&bob, &ticket, &["pm_card_chargeDeclined", "pm_card_visa"]).await?;
        let mut more_paid = Vec::new();
        for _ in 0..4 {
            more_paid.push(buys(&bob, &ticket, &["pm_card_visa"]).await?);
        }
        let free = buys(&bob, &alice.lists("Open day", 0, 5).await?, &["pm_card_visa"]).await?;

        // Orders believes that there is one, until it hears that there is none for the second.
        let last = alice.lists("Last seat", 100, 1).await?;
        let warm = bob.places(&last, 1).await?;
        bob.awaits_order(&warm.id, OrderStatus::AwaitingPayment).await?;
        bob.cancels(&warm.id).await?;
        alice.awaits_stock(&last.id, 1, 0, 0).await?;
        local::wait::until("orders to know that it can be had again", stories::SOON, || async {
            let session = delay::connect(world, "orders").await?;
            let known = format!("SELECT available FROM tickets WHERE id = '{}'", last.id);
            ensure!(session.query_one(&known, &[]).await?.get::<_, i32>(0) == 1, "it believes otherwise");
            Ok(())
        })
        .await?;
        let delay = Delay::of_ticket(world, &last.id).await?;
        let cancelled = bob.places(&last, 1).await?;
        let sold_out = bob.places(&last, 1).await?;
        delay.ends().await?;
        bob.awaits_cancellation(&sold_out.id, CancelReason::SoldOut).await?;
        bob.cancels(&cancelled.id).await?;

        bob.awaits_cancellation(&expired.id, CancelReason::Expired).await?;
        bob.awaits_cancellation(&refunded.id, CancelReason::Expired).await?;
        bob.awaits_payment(&refunded.id, PaymentStatus::Refunded).await?;
        Ok(Self { ticket, paid, more_paid, free, cancelled, sold_out, expired, refunded, open })
    }
}

async fn buys(buyer: &User, ticket: &Ticket, cards: &[&str]) -> Result<Order> {
    let order = buyer.places(ticket, 1).await?;
    buyer.awaits_order(&order.id, OrderStatus::AwaitingPayment).await?;
    for card in cards {
        buyer.pays(&order.id, card).await?;
    }
    buyer.awaits_order(&order.id, OrderStatus::Completed).await
}

/// What is no id would be nobody's, and nothing would be found about it.
fn order(order: &Order) -> About {
    About::Order(order.id.parse().unwrap_or_default())
}

/// Which rules do not hold, and of what.
async fn broken(sources: &Sources) -> Result<BTreeSet<(Rule, About)>> {
    let violations = look(sources).await?.violations;
    Ok(violations.into_iter().map(|violation| (violation.rule, violation.about)).collect())
}

#[tokio::test]
async fn the_auditor_is_silent_about_a_system_that_is_well_and_names_each_fact_that_is_changed_behind_its_back()
-> Result<()> {
    let world = World::with(|stack| Ok(stack.env("orders", "ORDER_TTL", TTL))).await?;
    let orders = Orders::live(&world).await?;
    let sources = sources(&world)?;

    let report = audit::audit(&sources, PATIENCE).await?;
    assert_eq!(report.violations, []);
    let counts = report.counts;
    assert_eq!((counts.tickets, counts.created, counts.awaiting_payment), (3, 0, 1));
    assert_eq!((counts.completed, counts.cancelled, counts.movements), (6, 5, 7));
    assert_eq!(counts.payments, 8);
    assert!(counts.events > 40, "{counts}");
    only_what_is_younger(&sources, &orders).await?;

    // Nobody must mend, or mind, what is done to them now.
    for service in SERVICES {
        world.replica(service, 0)?.process().terminate().await?;
    }
    assert_eq!(broken(&sources).await?, BTreeSet::new());
    the_program_says_so(&sources, 0).await?;
    tables_tampered_with(&world, &sources, &orders).await?;
    an_event_that_is_not_published(&world, &sources).await?;
    money_moved_behind_payments_back(&world, &sources, &orders).await?;
    records_that_no_service_wrote(&world, &sources, &orders).await?;
    the_program_says_so(&sources, 1).await?;
    let mut elsewhere = sources.clone();
    elsewhere.databases.orders = "postgres://orders@127.0.0.1:1/orders".to_owned();
    the_program_says_so(&elsewhere, 2).await?;
    world.end().await
}

/// Of what is older it says nothing, and counts nothing.
async fn only_what_is_younger(sources: &Sources, orders: &Orders) -> Result<()> {
    let since = Some(orders.cancelled.id.parse()?);
    let young = look(&Sources { since, ..sources.clone() }).await?;
    assert_eq!(young.violations, []);
    assert_eq!((young.counts.tickets, young.counts.orders(), young.counts.cancelled), (0, 2, 2));
    assert_eq!(young.counts.events, 5, "created, awaiting payment, cancelled; and created, cancelled");
    Ok(())
}

/// Each row: a service, what is done to its tables, and all that is wrong then.
async fn tables_tampered_with(world: &World, sources: &Sources, orders: &Orders) -> Result<()> {
    let ticket_id = &orders.ticket.id;
    let ticket = About::Ticket(ticket_id.parse()?);
    let Orders { paid, free, cancelled, sold_out, expired, refunded, open, .. } = orders;
    let nobodys = Uuid::now_v7();
    let nobody = About::Order(nobodys);
    let set =
        |table: &str, change: &str, key: &str, id: &str| format!("UPDATE {table} SET {change} WHERE {key} = '{id}'");
    let of_ticket = |change| set("tickets", change, "id", ticket_id);
    let of_order = |change, of: &Order| set("orders", change, "id", &of.id);
    let reservation = |change, of: &Order| set("reservations", change, "order_id", &of.id);
    let account = |change, of: &Order| set("accounts", change, "order_id", &of.id);
    let payment = |change, of: &Order| set("payments", change, "status <> 3 AND order_id", &of.id);
    let timer = |change, of: &Order| set("expirations", change, "order_id", &of.id);
    let gone = |table: &str, key: &str, of: &Order| format!("DELETE FROM {table} WHERE {key} = '{}'", of.id);
    type Row<'a> = (&'a str, String, Vec<(Rule, About)>);
    let table: Vec<Row<'_>> = vec![
        // Stock.
        ("tickets", of_ticket("reserved = reserved + 1, quantity = quantity + 1"), vec![(Stock, ticket)]),
        ("tickets", of_ticket("sold = sold - 1, quantity = quantity - 1"), vec![(Stock, ticket)]),
        (
            "tickets",
            format!("ALTER TABLE tickets DROP CONSTRAINT tickets_check; {}", of_ticket("quantity = 1")),
            vec![(Oversold, ticket), (TicketCopy, ticket)],
        ),
        ("tickets", reservation("status = 3", open), vec![(Stock, ticket), (Reservation, order(open))]),
        ("tickets", reservation("status = 2", open), vec![(Stock, ticket), (Reservation, order(open))]),
        (
            "tickets",
            reservation("status = 4", paid),
            vec![(Stock, ticket), (Reservation, order(paid)), (Told, order(paid))],
        ),
        ("tickets", reservation("status = 4", expired), vec![(Told, order(expired))]),
        ("tickets", reservation("quantity = quantity + 1", expired), vec![(Reservation, order(expired))]),
        ("tickets", reservation(&format!("ticket_id = '{nobodys}'"), expired), vec![(Reservation, order(expired))]),
        (
            "tickets",
            gone("reservations", "order_id", sold_out),
            vec![(Reservation, order(sold_out)), (Told, order(sold_out))],
        ),
        ("tickets", reservation("status = 5", sold_out), vec![(Reason, order(sold_out)), (Told, order(sold_out))]),
        (
            "tickets",
            format!("INSERT INTO reservations VALUES ('{nobodys}', '{ticket_id}', 1, 4)"),
            vec![(NoSuchOrder, nobody), (Told, nobody)],
        ),
        // Orders, and all that follows from what they are.
        ("orders", gone("orders", "id", cancelled), vec![(NoSuchOrder, order(cancelled)), (Told, order(cancelled))]),
        ("orders", of_order("status = 1", open), vec![(Undecided, order(open)), (Account, order(open))]),
        ("orders", of_order("expires_at = now()", open), vec![(Overdue, order(open)), (Timer, order(open))]),
        ("orders", of_order("version = version + 1", paid), vec![(Account, order(paid)), (Told, order(paid))]),
        ("orders", of_order("unit_price = unit_price + 1", paid), vec![(Account, order(paid)), (Money, order(paid))]),
        (
            "orders",
            of_order("status = 4, cancel_reason = 1", free),
            vec![(Reservation, order(free)), (Account, order(free)), (Payment, order(free))],
        ),
        // Why and when they ended.
        ("orders", of_order("cancel_reason = 2", cancelled), vec![(Reason, order(cancelled))]),
        ("orders", of_order("cancel_reason = 3", cancelled), vec![(Reason, order(cancelled))]),
        ("orders", of_order("updated_at = expires_at - interval '2 minutes'", expired), vec![(Reason, order(expired))]),
        // Copies.
        ("orders", of_ticket("title = 'Opera'"), vec![(TicketCopy, ticket)]),
        ("orders", of_ticket("currency = 'EUR'"), vec![(TicketCopy, ticket)]),
        ("orders", of_ticket("price = price + 1"), vec![(TicketCopy, ticket)]),
        ("orders", of_ticket("available = available - 1"), vec![(TicketCopy, ticket)]),
        ("orders", of_ticket("withdrawn = true"), vec![(TicketCopy, ticket)]),
        ("orders", of_ticket("version = version - 1"), vec![(TicketCopy, ticket)]),
        ("orders", format!("DELETE FROM tickets WHERE id = '{ticket_id}'"), vec![(TicketCopy, ticket)]),
        ("tickets", of_ticket("version = version + 1"), vec![(TicketCopy, ticket), (Told, ticket)]),
        ("payments", account("user_id = 'eve'", paid), vec![(Account, order(paid))]),
        ("payments", account("currency = 'EUR'", paid), vec![(Account, order(paid))]),
        ("payments", account("total = total + 1", paid), vec![(Account, order(paid))]),
        ("payments", account("order_status = 2", paid), vec![(Account, order(paid))]),
        ("payments", account("order_version = order_version - 1", paid), vec![(Account, order(paid))]),
        ("payments", gone("accounts", "order_id", expired), vec![(Account, order(expired))]),
        // Timers.
        ("expiration", timer("status = 1", paid), vec![(Timer, order(paid))]),
        ("expiration", timer("status = 3", open), vec![(Timer, order(open))]),
        ("expiration", timer("expires_at = expires_at + interval '1 ms'", open), vec![(Timer, order(open))]),
        ("expiration", timer("status = 2", paid), vec![(Told, order(paid))]),
        ("expiration", gone("expirations", "order_id", cancelled), vec![(Timer, order(cancelled))]),
        (
            "expiration",
            format!("INSERT INTO expirations VALUES ('{nobodys}', now(), 3, '')"),
            vec![(NoSuchOrder, nobody)],
        ),
        // Money.
        ("payments", payment("status = 1", paid), vec![(Payment, order(paid))]),
        ("payments", payment("status = 4", refunded), vec![(Payment, order(refunded))]),
        ("payments", payment("status = 3, failure_reason = 'lost'", refunded), vec![(Rule::Ledger, order(refunded))]),
        ("payments", payment("provider_reference = 'pi_another'", paid), vec![(Rule::Ledger, order(paid))]),
        ("payments", payment("version = version - 1", paid), vec![(Told, order(paid))]),
        ("payments", payment("user_id = 'eve'", paid), vec![(Payment, order(paid))]),
    ];

    let mut kept = std::collections::BTreeMap::new();
    for service in SERVICES {
        kept.insert(service, Tables::keep(world, service).await?);
    }
    for (service, statements, expected) in table {
        let tables = kept.get(service).context("all are kept")?;
        tables.tamper(&statements).await?;
        let found = broken(sources).await.with_context(|| statements.clone())?;
        assert_eq!(found, expected.into_iter().collect(), "{service}: {statements}");
        tables.undo().await?;
    }
    assert_eq!(broken(sources).await?, BTreeSet::new(), "all of it was undone");

    // What stays is reported, when patience is over.
    let tables = kept.get("payments").context("all are kept")?;
    tables.tamper(&payment("status = 4", refunded)).await?;
    let report = audit::audit(sources, Duration::from_secs(2)).await?;
    let [violation] = &report.violations[..] else { anyhow::bail!("{report:?}") };
    assert_eq!((violation.rule, violation.about), (Payment, order(refunded)));
    assert!(report.looks > 1, "{report:?}");
    tables.undo().await
}

/// The relay has stopped before it.
async fn an_event_that_is_not_published(world: &World, sources: &Sources) -> Result<()> {
    let session = delay::connect(world, "orders").await?;
    let unpublished = "INSERT INTO outbox (event_id, event_type, key, traceparent, payload) \
                       VALUES (gen_random_uuid(), 'order.audited', 'a key', '', '')";
    session.batch_execute(unpublished).await?;
    assert_eq!(broken(sources).await?, [(Outbox, Service("orders"))].into());
    session.batch_execute("DELETE FROM outbox WHERE event_type = 'order.audited'").await?;
    assert_eq!(broken(sources).await?, BTreeSet::new());

    let no_cursor = "CREATE TEMP TABLE kept_cursor AS TABLE outbox_cursor; DELETE FROM outbox_cursor";
    session.batch_execute(no_cursor).await?;
    assert_eq!(broken(sources).await?, [(Outbox, Service("orders"))].into(), "nobody knows what is published");
    session.batch_execute("INSERT INTO outbox_cursor TABLE kept_cursor").await?;
    assert_eq!(broken(sources).await?, BTreeSet::new());
    Ok(())
}

/// What it knows is true then, and isn't the truth. It can't be undone; nor is it looked at again.
async fn money_moved_behind_payments_back(world: &World, sources: &Sources, orders: &Orders) -> Result<()> {
    let ledger = Ledger::of(world)?;
    let [back, twice, ..] = &orders.more_paid[..] else { anyhow::bail!("there are more") };
    let nobody = Uuid::now_v7();
    let mut expected = BTreeSet::new();

    ledger.gives_back(&back.id).await?;
    expected.extend([(Money, order(back)), (Rule::Ledger, order(back))]);
    assert_eq!(broken(sources).await?, expected);
    ledger.charges(&twice.id, 29900).await?;
    expected.extend([(Money, order(twice)), (Rule::Ledger, order(twice))]);
    assert_eq!(broken(sources).await?, expected);
    ledger.charges(&nobody.to_string(), 50).await?;
    expected.extend([(NoSuchOrder, About::Order(nobody))]);
    assert_eq!(broken(sources).await?, expected);

    let believed = Sources { ledger: None, ..sources.clone() };
    assert_eq!(broken(&believed).await?, BTreeSet::new(), "payments is believed where there is no ledger");
    Ok(())
}

/// Of the money nothing is said any more; what lies on a topic stays.
async fn records_that_no_service_wrote(world: &World, sources: &Sources, orders: &Orders) -> Result<()> {
    let sources = &Sources { ledger: None, ..sources.clone() };
    let [.., reworded, passed_over] = &orders.more_paid[..] else { anyhow::bail!("there are more") };
    let told = history::first_appearances(world, "orders").await?;
    let last = |of: &Order| told.iter().rfind(|event| event.key == of.id).cloned().context("it was told");
    let mut expected = BTreeSet::new();

    // As a relay does that was cut off.
    tampering::tell(world, "orders", last(&orders.paid)?).await?;
    assert_eq!(broken(sources).await?, expected, "the same again, word for word, is no fault");

    let mut event = last(reworded)?;
    event.headers.insert("ce_id".to_owned(), Uuid::now_v7().to_string());
    tampering::tell(world, "orders", event).await?;
    expected.insert((Events, order(reworded)));
    assert_eq!(broken(sources).await?, expected, "told twice");

    let event = last(passed_over)?;
    let mut message: OrderEvent = event.message()?;
    message.version += 2;
    tampering::tell(world, "orders", Event { payload: message.encode_to_vec(), ..event }).await?;
    expected.extend([(Events, order(passed_over)), (Told, order(passed_over))]);
    assert_eq!(broken(sources).await?, expected, "a version was passed over");

    let misplaced = Event { key: orders.expired.id.clone(), ..last(&orders.paid)? };
    tampering::tell(world, "orders", misplaced).await?;
    expected.insert((Events, order(&orders.expired)));
    assert_eq!(broken(sources).await?, expected, "under another's key");

    let nobody = Uuid::now_v7();
    let mut message: OrderEvent = last(&orders.paid)?.message()?;
    (message.order_id, message.version) = (nobody.to_string(), 1);
    let unheard = Event { key: nobody.to_string(), payload: message.encode_to_vec(), ..last(&orders.paid)? };
    tampering::tell(world, "orders", unheard).await?;
    expected.insert((Told, About::Order(nobody)));
    assert_eq!(broken(sources).await?, expected, "of an order that nobody placed");

    // Another rejection of one that was rejected, where it fits in with what the ticket tells.
    let told = history::first_appearances(world, "tickets").await?;
    let rejection = |event: &&Event| event.headers.get("ce_type").is_some_and(|kind| kind.ends_with("rejected"));
    let rejected = told.iter().find(rejection).context("it was told")?;
    let newest = told.iter().rfind(|event| event.key == rejected.key).context("it was told")?;
    let mut message: TicketEvent = rejected.message()?;
    message.version = newest.message::<TicketEvent>()?.version;
    tampering::tell(world, "tickets", Event { payload: message.encode_to_vec(), ..rejected.clone() }).await?;
    expected.insert((Told, order(&orders.sold_out)));
    assert_eq!(broken(sources).await?, expected, "rejected twice");

    // Twice: a timer that fires again, and a ticket's event that is none.
    let told = history::first_appearances(world, "expiration").await?;
    let mut fired = told.into_iter().find(|event| event.key == orders.refunded.id).context("it fired")?;
    fired.headers.insert("ce_id".to_owned(), Uuid::now_v7().to_string());
    tampering::tell(world, "expiration", fired.clone()).await?;
    expected.insert((Events, order(&orders.refunded)));
    assert_eq!(broken(sources).await?, expected);
    tampering::tell(world, "tickets", Event { payload: b"\xff".to_vec(), ..fired }).await?;
    expected.insert((Events, Topic("tickets")));
    assert_eq!(broken(sources).await?, expected);
    Ok(())
}

/// `make audit`'s own program: its exit status, a line a violation, and one that sums up.
async fn the_program_says_so(sources: &Sources, status: i32) -> Result<()> {
    let Sources { databases, kafka_brokers, topic_prefix, ledger, .. } = sources;
    let options = [
        ("--tickets", databases.tickets.as_str()),
        ("--orders", &databases.orders),
        ("--payments", &databases.payments),
        ("--expiration", &databases.expiration),
        ("--kafka-brokers", kafka_brokers),
        ("--topic-prefix", topic_prefix),
        ("--ledger", ledger.as_deref().context("it has one")?),
        ("--patience", "1s"),
    ];
    let options: Vec<_> = options.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let output = program::run("audit", &options, &[]).await?;
    let said = program::said(&output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    let lines = String::from_utf8(output.stdout)?;
    match status {
        0 => assert!(lines.starts_with("nothing is wrong") && lines.lines().count() == 1, "{said}"),
        1 => assert_eq!(lines.lines().count(), look(sources).await?.violations.len() + 1, "{said}"),
        _ => assert!(lines.is_empty() && said.contains("orders' database"), "{said}"),
    }
    Ok(())
}
