//! What the protos say above their services, calls, messages, fields and values.

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};

pub(super) fn of_service(descriptor: &ServiceDescriptor) -> String {
    at(&descriptor.parent_file(), descriptor.path())
}

pub(super) fn of_method(descriptor: &MethodDescriptor) -> String {
    at(&descriptor.parent_file(), descriptor.path())
}

pub(super) fn of_message(descriptor: &MessageDescriptor) -> String {
    at(&descriptor.parent_file(), descriptor.path())
}

pub(super) fn of_field(descriptor: &FieldDescriptor) -> String {
    at(&descriptor.parent_file(), descriptor.path())
}

/// With a line for each value that has something said of it.
pub(super) fn of_enum(descriptor: &EnumDescriptor) -> String {
    let values = descriptor.values().map(|value| (value.name().to_owned(), of_value(&value)));
    let lines = values.filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("- {name}: {text}"));
    let own = at(&descriptor.parent_file(), descriptor.path());
    Some(own).filter(|own| !own.is_empty()).into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

fn of_value(descriptor: &EnumValueDescriptor) -> String {
    at(&descriptor.parent_enum().parent_file(), descriptor.path())
}

/// The comment before what has this path in its file; lines are one paragraph until an empty one.
fn at(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let mut locations = info.map(|info| info.location.as_slice()).unwrap_or_default().iter();
    let comment =
        locations.find(|location| location.path == path).and_then(|location| location.leading_comments.as_deref());
    let lines: Vec<_> = comment.unwrap_or_default().trim().lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|paragraph| paragraph.join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
