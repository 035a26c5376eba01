//! The service config that clients are given repeats what may be repeated, and nothing else.

use gateway::api::{Api, Method};
use serde_json::Value;

/// Writes that answer a repetition as they did the first time, whoever made it: the contract says so of each.
const HARMLESS: [&str; 2] = ["CancelOrder", "WithdrawTicket"];

/// Whether a call may be made again by a client that doesn't know whether it was done. Creates may, by their `request_id`,
/// which whoever uses this config sets.
fn may_be_repeated(method: &Method) -> bool {
    let name = method.descriptor.name();
    let claims = method.descriptor.input().get_field_by_name("request_id").is_some();
    method.reads() || claims || HARMLESS.contains(&name)
}

#[test]
fn clients_repeat_what_may_be_repeated_and_nothing_else() {
    let config: Value = serde_json::from_str(include_str!("../../../proto/service-config.json")).expect("JSON");
    let api = Api::of_contracts().expect("an API");
    let configs = config["methodConfig"].as_array().expect("configs");

    for method in api.methods() {
        let (service, name) = method.path[1..].split_once('/').expect("a path");
        let is_of = |config: &&Value| {
            let names = config["name"].as_array().expect("names");
            names.iter().any(|of| of["service"] == service && of["method"] == name)
        };
        let of: Vec<_> = configs.iter().filter(is_of).collect();
        assert_eq!(of.len(), 1, "{name} has one config");
        assert_eq!(of[0].get("retryPolicy").is_some(), may_be_repeated(method), "{name}");
        // A watch may take hours; what else the services end after 30 s, clients needn't wait for longer.
        assert_eq!(of[0].get("timeout").is_none(), method.streams(), "{name}");
    }
    let names = configs.iter().map(|config| config["name"].as_array().expect("names").len()).sum::<usize>();
    assert_eq!(names, api.methods().count(), "and nothing that there isn't");
}
