//! The contract as OpenAPI 3, for those who call with JSON. In: the calls, with the protos' comments. Out: the document, which
//! is `proto/openapi.yaml`.

mod comments;
mod operations;
mod schemas;

use serde_json::json;

use crate::api::{Api, Unreadable};

/// What it says before the calls begin.
const ABOUT: &str = "\
Tickets, orders and payments, as the gateway has them in JSON. It is ProtoJSON: integers of 64 bits are strings, enums are \
their names, and what is not set is printed as zero; requests may write names in lowerCamelCase or as the protos do. Errors are \
google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply.";

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// The contracts can't be read.
    #[error(transparent)]
    Api(#[from] Unreadable),
    /// Two messages would have the same name.
    #[error("two types are called {0}: the document's names are without packages")]
    Ambiguous(String),
    /// It isn't OpenAPI.
    #[error("this is no OpenAPI: {0}")]
    Json(#[from] serde_json::Error),
    /// It can't be written down.
    #[error("it can't be written as YAML: {0}")]
    Yaml(#[from] yaml_serde::Error),
}

/// The document, as YAML.
///
/// # Errors
///
/// The contracts tell of something that it has no words for.
pub fn openapi() -> Result<String, Unwritable> {
    let api = Api::of_contracts()?;
    let mut schemas = schemas::Schemas::default();
    let paths = operations::paths(&api, &mut schemas)?;
    let error = json!({ "$ref": schemas.of_name(&api, "google.rpc.Status")? });
    for detail in ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
        schemas.of_name(&api, detail)?;
    }
    let tags: Vec<_> = api
        .services
        .iter()
        .map(|service| {
            let descriptor = &service.descriptor;
            json!({ "name": descriptor.name(), "description": comments::of_service(descriptor) })
        })
        .collect();
    let document = json!({
        "openapi": "3.0.3",
        "info": { "title": "Ticketing", "version": "v1", "description": ABOUT },
        "servers": [{ "url": "http://localhost:8080", "description": "make run" }],
        "security": [{ "token": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            "responses": { "Error": {
                "description": "The call was refused, or failed.",
                "content": { "application/json": { "schema": error } },
            } },
            "schemas": schemas.into_inner(),
        },
    });
    // By way of OpenAPI's own types: what they don't know isn't any.
    let document: openapiv3::OpenAPI = serde_json::from_value(document)?;
    Ok(format!("# Made of the protos by `make openapi`.\n{}", yaml_serde::to_string(&document)?))
}
