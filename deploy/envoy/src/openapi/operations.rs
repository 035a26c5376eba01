//! Calls, each in every way that HTTP has it.

use prost_reflect::FieldDescriptor;
use serde_json::{Map, Value, json};

use super::{
    Unwritable, comments,
    schemas::{Schemas, describe},
};
use crate::api::{Api, Binding, Method};

pub(super) fn paths(api: &Api, schemas: &mut Schemas) -> Result<Map<String, Value>, Unwritable> {
    let mut paths = Map::new();
    for method in api.methods() {
        for (nth, binding) in method.bindings.iter().enumerate() {
            let operation = operation(method, nth, binding, schemas)?;
            let path = paths.entry(&binding.template).or_insert_with(|| json!({}));
            path[binding.verb.to_ascii_lowercase()] = operation;
        }
    }
    Ok(paths)
}

fn operation(method: &Method, nth: usize, binding: &Binding, schemas: &mut Schemas) -> Result<Value, Unwritable> {
    let service = method.descriptor.parent_service();
    let name = method.descriptor.name();
    // The main way has the call's own name; the others are counted.
    let nth = if nth == 0 { String::new() } else { (nth + 1).to_string() };

    let variables: Vec<_> = binding.variables().collect();
    let input = method.descriptor.input();
    let (in_path, rest): (Vec<_>, Vec<_>) = input.fields().partition(|field| variables.contains(&field.name()));
    let mut parameters = Vec::new();
    for field in &in_path {
        parameters.push(parameter("path", field, field.name(), schemas)?);
    }
    if !binding.body {
        for field in &rest {
            parameters.push(parameter("query", field, field.json_name(), schemas)?);
        }
    }

    let output = json!({ "$ref": schemas.of_message(&method.descriptor.output())? });
    let (kind, meaning) = match method.streams() {
        true => ("text/event-stream", "Server-sent events: the data of each is one of these, as JSON."),
        false => ("application/json", "It was done."),
    };
    let mut operation = json!({
        "tags": [service.name()],
        "operationId": format!("{}_{name}{nth}", service.name()),
        "responses": {
            "200": { "description": meaning, "content": { kind: { "schema": output } } },
            "default": { "$ref": "#/components/responses/Error" },
        },
    });
    describe(&mut operation, &comments::of_method(&method.descriptor));
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if binding.body {
        let body = schemas.object(rest.into_iter(), &comments::of_message(&input))?;
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    Ok(operation)
}

fn parameter(place: &str, field: &FieldDescriptor, name: &str, schemas: &mut Schemas) -> Result<Value, Unwritable> {
    let mut schema = schemas.field(field)?;
    // Said once, of the parameter; then a reference can be alone again.
    if let Some(object) = schema.as_object_mut() {
        object.remove("description");
    }
    if let Some(only) = schema.get("allOf").and_then(|all| all.get(0)).cloned() {
        schema = only;
    }
    let mut parameter = json!({ "in": place, "name": name, "schema": schema, "required": place == "path" });
    describe(&mut parameter, &comments::of_field(field));
    Ok(parameter)
}
