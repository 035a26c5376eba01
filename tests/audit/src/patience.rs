//! Telling what is wrong from what is under way. In: looks. Out: what they all have seen, as long as patience lasts.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::{Report, Violation};

/// Between two looks, so that those at a small system don't keep it from what it does.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks until nothing is wrong, or something has been as long as `patience`.
///
/// A system at work is never seen without anything under way, so it is enough that everything that was wrong at first has
/// gone since. Only what was wrong in the end hasn't been given its time by then: it is, in a second round.
pub(crate) async fn outlasting(patience: Duration, mut look: impl AsyncFnMut() -> Result<Report>) -> Result<Report> {
    let mut report = look().await?;
    let mut looks = 1;
    for _round in 0..2 {
        let begun = Instant::now();
        let mut suspected = report.violations.clone();
        while !suspected.is_empty() {
            if begun.elapsed() >= patience {
                return Ok(Report { looks, violations: suspected, ..report });
            }
            sleep(PAUSE.min(patience)).await;
            report = look().await?;
            looks += 1;
            suspected = lasting(&suspected, &report.violations);
        }
    }
    Ok(Report { looks, violations: Vec::new(), ..report })
}

/// Those of `before` that are still there, in the words of now, but measured by how it was then.
fn lasting(before: &[Violation], now: &[Violation]) -> Vec<Violation> {
    // There may be as many as there are orders.
    let mut found: HashMap<_, Vec<&Violation>> = HashMap::new();
    for violation in now {
        found.entry((violation.rule, violation.about)).or_default().push(violation);
    }
    let still = |then: &Violation| {
        let found = found.get(&(then.rule, then.about))?.iter().find(|found| then.is_still(found))?;
        Some(Violation { behind: then.behind, ..Violation::clone(found) })
    };
    before.iter().filter_map(still).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{About, Rule};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn undecided(order: u128) -> Violation {
        Violation::new(Rule::Undecided, About::Order(Uuid::from_u128(order)), "it waits")
    }

    fn copy_at(version: i64, of: i64) -> Violation {
        Violation::lagging(Rule::TicketCopy, About::Ticket(Uuid::nil()), [version, of], "another version")
    }

    /// What is reported, and after how many looks, when they see this; the last again and again.
    async fn after(looks: Vec<Vec<Violation>>) -> (Vec<Violation>, usize) {
        let mut seen = 0;
        let report = outlasting(PATIENCE, async || {
            let violations = looks[seen.min(looks.len() - 1)].clone();
            seen += 1;
            Ok(Report { violations, ..Report::default() })
        })
        .await
        .unwrap();
        assert_eq!(report.looks, seen);
        (report.violations, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_is_enough_where_nothing_is_wrong() {
        assert_eq!(after(vec![vec![]]).await, (vec![], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_as_long_as_patience_is_reported_whatever_comes_and_goes_beside_it() {
        let looks = vec![vec![undecided(1), undecided(2)], vec![undecided(3), undecided(2)], vec![undecided(2)]];
        let (violations, looks) = after(looks).await;
        assert_eq!(violations, [undecided(2)]);
        assert_eq!(looks, 41, "20 s, twice a second");
    }

    #[tokio::test(start_paused = true)]
    async fn work_under_way_is_not_reported_though_there_is_always_some() {
        let looks = vec![vec![undecided(1)], vec![undecided(2)], vec![undecided(3)]];
        assert_eq!(after(looks).await, (vec![], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wrong_only_in_the_end_is_given_its_time_too() {
        let looks = vec![vec![undecided(1)], vec![undecided(2)]];
        assert_eq!(after(looks).await.0, [undecided(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_follows_is_under_way_and_whoever_stands_still_is_not() {
        let follows = (0..9).map(|look| vec![copy_at(10 * look, 10 * look + 5)]).collect();
        assert_eq!(after(follows).await.0, []);
        let stands = (0..99).map(|look| vec![copy_at(3, 10 * look + 5)]).collect();
        assert_eq!(after(stands).await.0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_one_look_says_it() {
        let report =
            outlasting(Duration::ZERO, async || Ok(Report { violations: vec![undecided(1)], ..Report::default() }));
        assert_eq!(report.await.unwrap().violations, [undecided(1)]);
    }
}
