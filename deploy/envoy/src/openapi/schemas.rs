//! Messages and enums, as ProtoJSON writes them.

use std::collections::BTreeMap;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{Unwritable, comments};
use crate::api::{Api, Unreadable};

/// The types that were met so far.
#[derive(Default)]
pub(super) struct Schemas {
    /// By their names without packages.
    schemas: Map<String, Value>,
    full_names: BTreeMap<String, String>,
}

impl Schemas {
    pub(super) fn into_inner(self) -> Map<String, Value> {
        self.schemas
    }

    /// A reference to the message of this full name.
    pub(super) fn of_name(&mut self, api: &Api, name: &str) -> Result<String, Unwritable> {
        let found = api.pool.get_message_by_name(name);
        let missing = || Unreadable::Method { method: name.to_owned(), problem: "there is no such message" };
        self.of_message(&found.ok_or_else(missing)?)
    }

    /// A reference to a message.
    pub(super) fn of_message(&mut self, message: &MessageDescriptor) -> Result<String, Unwritable> {
        if self.is_new(message.name(), message.full_name())? {
            let schema = self.object(message.fields(), &comments::of_message(message))?;
            self.schemas.insert(message.name().to_owned(), schema);
        }
        Ok(reference(message.name()))
    }

    /// An object with these fields.
    pub(super) fn object(
        &mut self,
        fields: impl Iterator<Item = FieldDescriptor>,
        description: &str,
    ) -> Result<Value, Unwritable> {
        let mut properties = Map::new();
        for field in fields {
            properties.insert(field.json_name().to_owned(), self.field(&field)?);
        }
        let mut object = json!({ "type": "object", "properties": properties });
        describe(&mut object, description);
        Ok(object)
    }

    /// A field, with what is said of it.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Result<Value, Unwritable> {
        let description = comments::of_field(field);
        let one = self.one(field)?;
        let mut schema = match field.cardinality() {
            Cardinality::Repeated if !field.is_map() => json!({ "type": "array", "items": one }),
            // Beside a reference nothing else counts.
            _ if one.get("$ref").is_some() && !description.is_empty() => json!({ "allOf": [one] }),
            _ => one,
        };
        describe(&mut schema, &description);
        Ok(schema)
    }

    fn one(&mut self, field: &FieldDescriptor) -> Result<Value, Unwritable> {
        Ok(match field.kind() {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "string", "format": "int64" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "format": "byte" }),
            Kind::Enum(kind) => json!({ "$ref": self.of_enum(&kind)? }),
            Kind::Message(message) if field.is_map() => {
                let value = self.one(&message.map_entry_value_field())?;
                json!({ "type": "object", "additionalProperties": value })
            }
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
                "google.protobuf.Duration" => json!({ "type": "string", "example": "0.500s" }),
                "google.protobuf.Any" => json!({
                    "type": "object",
                    "properties": { "@type": { "type": "string" } },
                    "additionalProperties": true,
                }),
                _ => json!({ "$ref": self.of_message(&message)? }),
            },
        })
    }

    fn of_enum(&mut self, kind: &EnumDescriptor) -> Result<String, Unwritable> {
        if self.is_new(kind.name(), kind.full_name())? {
            let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
            let mut schema = json!({ "type": "string", "enum": names });
            describe(&mut schema, &comments::of_enum(kind));
            self.schemas.insert(kind.name().to_owned(), schema);
        }
        Ok(reference(kind.name()))
    }

    /// Whether this type has not been met before; from now on it has, so that one that holds itself has an end.
    fn is_new(&mut self, name: &str, full_name: &str) -> Result<bool, Unwritable> {
        match self.full_names.get(name) {
            Some(known) if known == full_name => Ok(false),
            Some(_) => Err(Unwritable::Ambiguous(name.to_owned())),
            None => Ok(self.full_names.insert(name.to_owned(), full_name.to_owned()).is_none()),
        }
    }
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

pub(super) fn describe(value: &mut Value, description: &str) {
    if !description.is_empty() {
        value["description"] = description.into();
    }
}
