//! The committed document says what the protos say.

#[test]
fn the_committed_openapi_is_what_the_protos_make_it() {
    let committed = include_str!("../../../proto/openapi.yaml");
    let made = gateway::openapi::openapi().expect("a document");
    assert!(made == committed, "proto/openapi.yaml is behind the protos: make openapi");
}
