//! SIGKILL in the middle of load: what was answered is in the ledger, and everything is there once.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;

use crate::support::{Sandbox, eventually};

const CALLERS: usize = 16;
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn every_answered_charge_is_in_the_ledger_once_whatever_was_killed() {
    let sandbox = Sandbox::start().await;
    let mut answered: HashMap<String, String> = HashMap::new();
    for round in 0..KILLS {
        let calling = join_all((0..CALLERS).map(|caller| call_until_killed(&sandbox, format!("{round}-{caller}"))));
        let killing = async {
            let before = sandbox.ledger("").await.len();
            eventually("some charges", async || sandbox.ledger("limit=100000").await.len() > before + 100).await;
            sandbox.process.kill().await.unwrap();
        };
        let (calls, ()) = tokio::join!(calling, killing);
        sandbox.process.start().await.unwrap();
        for (charged, unanswered) in calls {
            answered.extend(charged);
            // Whether it was done or not: with the same key it is done once.
            let reply = sandbox.charge(&unanswered, "pm_card_visa").await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
            answered.insert(unanswered, reply.id().to_owned());
        }
    }

    let ledger = sandbox.ledger("").await;
    let seqs: Vec<_> = ledger.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=ledger.len() as u64).collect::<Vec<_>>());
    let keys: HashSet<_> = ledger.iter().map(|line| line["idempotency_key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), ledger.len(), "each once");
    assert_eq!(keys, answered.keys().map(String::as_str).collect(), "what was answered, and nothing else");
    assert!(ledger.iter().all(|line| line["id"] == answered[line["idempotency_key"].as_str().unwrap()].as_str()));
    let totals = sandbox.get("/sandbox/totals").await;
    assert_eq!(totals.body["usd"]["charges"], ledger.len());
}

/// Charges one after another: those that were answered, with their intents, and the one that was not.
async fn call_until_killed(sandbox: &Sandbox, caller: String) -> (HashMap<String, String>, String) {
    let mut answered = HashMap::new();
    for nth in 0.. {
        let key = format!("{caller}-{nth}");
        match sandbox.charge(&key, "pm_card_visa").await {
            Ok(reply) => answered.insert(key, reply.id().to_owned()),
            Err(_) => return (answered, key),
        };
    }
    unreachable!("the process is killed some time")
}
