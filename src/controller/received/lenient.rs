//! Reads as much of the text of one object as can be read, and says what cannot.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};
use serde_path_to_error::Segment;

use super::{FromMetadata, OWNED_DATA, Unreadable};
use crate::api::printable;

/// The longest text about a fault, in characters.
const FAULT_CHARACTERS: usize = 200;

/// How many values that cannot be read are left out one by one. Each costs a look at the whole object. After these, the whole
/// field of the object is left out, such as the status.
const LEFT_OUT_ONE_BY_ONE: usize = 16;

/// How many fields of an object are left out whole, at most.
const LEFT_OUT_WHOLE: usize = 16;

/// The first fault in the status, and the first one anywhere else.
#[derive(Default)]
struct Faults {
    status: Option<String>,
    object: Option<String>,
}

impl Faults {
    fn add(&mut self, path: &str, cause: &str) {
        let is_status = path == "status" || path.starts_with("status.") || path.starts_with("status[");
        let of_part = if is_status { &mut self.status } else { &mut self.object };
        of_part.get_or_insert_with(|| printable(&format!("{path}: {cause}"), FAULT_CHARACTERS));
    }

    fn into_unreadable(self) -> Option<Unreadable> {
        self.object.map(Unreadable::Object).or(self.status.map(Unreadable::Status))
    }
}

/// Reads an object from a text that is JSON by its syntax.
pub(super) fn read<K: FromMetadata>(text: &str) -> (K, Option<Unreadable>) {
    let mut faults = Faults::default();
    let (mut value, managed_fields) = buffer(text, &mut faults);
    let mut object: K = part("", &mut value, &mut faults).unwrap_or_else(|| {
        let metadata = value.get_mut("metadata").and_then(|metadata| part("metadata", metadata, &mut faults));
        K::from_metadata(metadata.unwrap_or_default())
    });
    object.meta_mut().managed_fields = managed_fields.filter(|_| K::KEEPS_MANAGERS).map(managers);
    (object, faults.into_unreadable())
}

/// The object without its `managedFields`, and the `managedFields`. Each field is parsed by itself, because one may be nested too
/// deep or hold a number that is out of range.
fn buffer<'text>(text: &'text str, faults: &mut Faults) -> (Value, Option<&'text RawValue>) {
    let mut managed_fields = None;
    let mut object = Map::new();
    for (key, raw) in fields(text, "the object", faults) {
        if key == "metadata" {
            let mut of_metadata = fields(raw.get(), "metadata", faults);
            managed_fields = of_metadata.remove("managedFields");
            let metadata = of_metadata.into_iter().filter_map(|(key, raw)| {
                let value = parse(raw, &format!("metadata.{key}"), faults)?;
                Some((key, value))
            });
            object.insert(key, Value::Object(metadata.collect()));
        } else if let Some(value) = parse(raw, &key, faults) {
            object.insert(key, value);
        }
    }
    (Value::Object(object), managed_fields)
}

fn fields<'text>(text: &'text str, path: &str, faults: &mut Faults) -> BTreeMap<String, &'text RawValue> {
    serde_json::from_str(text).inspect_err(|error| faults.add(path, &cause(&error.to_string()))).unwrap_or_default()
}

fn parse(raw: &RawValue, path: &str, faults: &mut Faults) -> Option<Value> {
    serde_json::from_str(raw.get()).inspect_err(|error| faults.add(path, &cause(&error.to_string()))).ok()
}

/// Reads the part of the object that stands at this path. What cannot be read is left out of the value. `None` if nothing can be
/// made of the rest.
fn part<T: DeserializeOwned>(at: &str, value: &mut Value, faults: &mut Faults) -> Option<T> {
    for attempt in 0..LEFT_OUT_ONE_BY_ONE + LEFT_OUT_WHOLE {
        let error = match serde_path_to_error::deserialize(&*value) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let segments: Vec<&Segment> = error.path().iter().collect();
        let path = match (at, segments.is_empty()) {
            ("", true) => "the object".to_owned(),
            (at, true) => at.to_owned(),
            ("", false) => error.path().to_string(),
            (at, false) => format!("{at}.{}", error.path()),
        };
        faults.add(&path, &cause(&error.inner().to_string()));
        let depth = if attempt < LEFT_OUT_ONE_BY_ONE { segments.len() } else { segments.len().min(1) };
        if !leave_out(value, &segments[..depth]) {
            return None;
        }
    }
    None
}

/// Removes what stands at a path, or the last element on the way there that exists. Returns whether anything was removed.
fn leave_out(value: &mut Value, path: &[&Segment]) -> bool {
    let [first, rest @ ..] = path else { return false };
    if child(value, first).is_some_and(|child| leave_out(child, rest)) {
        return true;
    }
    match (value, first) {
        (Value::Object(fields), Segment::Map { key }) => fields.remove(key).is_some(),
        (Value::Array(items), Segment::Seq { index }) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn child<'value>(value: &'value mut Value, segment: &Segment) -> Option<&'value mut Value> {
    match segment {
        Segment::Map { key } => value.get_mut(key),
        Segment::Seq { index } => value.get_mut(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// The message of the reader without the value that it quotes, because that may be secret.
fn cause(message: &str) -> String {
    // The line and column would count from the start of a part of the object.
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if ["missing field", "recursion limit", "number out of range"].iter().any(|known| message.starts_with(known)) => {
            message.to_owned()
        }
        None => "its value cannot be read".to_owned(),
    }
}

/// An entry of `managedFields`, as far as it says who wrote, when, and whether that was data.
#[derive(Deserialize)]
struct Writer<'text> {
    #[serde(default)]
    manager: Option<String>,
    #[serde(default)]
    operation: Option<String>,
    #[serde(borrow, default)]
    time: Option<&'text RawValue>,
    #[serde(borrow, default, rename = "fieldsV1")]
    fields: Option<&'text RawValue>,
}

/// The data among the fields that a writer owns, without the names of its entries.
fn owned_data(fields: &RawValue) -> Option<FieldsV1> {
    let names: BTreeMap<String, &RawValue> = serde_json::from_str(fields.get()).unwrap_or_default();
    let data = names.into_keys().filter(|name| OWNED_DATA.contains(&name.as_str()));
    let data: Map<String, Value> = data.map(|name| (name, Value::Object(Map::new()))).collect();
    (!data.is_empty()).then_some(FieldsV1(Value::Object(data)))
}

/// Reads `managedFields`. Whoever may write the object may have made them up. A time that cannot be read counts as the latest,
/// because it may be later than any that can be read.
fn managers(managed_fields: &RawValue) -> Vec<ManagedFieldsEntry> {
    let entries: Vec<&RawValue> = serde_json::from_str(managed_fields.get()).unwrap_or_default();
    let entries = entries.into_iter().filter_map(|entry| serde_json::from_str::<Writer<'_>>(entry.get()).ok());
    let time = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Time(Timestamp::MAX));
    entries
        .map(|Writer { manager, operation, time: raw, fields }| ManagedFieldsEntry {
            manager,
            operation,
            time: raw.map(time),
            fields_v1: fields.and_then(owned_data),
            ..ManagedFieldsEntry::default()
        })
        .collect()
}
