//! Objects as the API server has them, fields among them that this program does not know.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{
    Value,
    value::{Map, RawValue},
};

/// What stands for a field whose value is nested too deep, or has a number that is out of range.
const UNREADABLE: &str = "[cannot be read]";

/// An object of kind `K`, without `managedFields`. It can be read whatever its author wrote into it: no field has to have a certain form.
///
/// Its metadata are in `value` alone, so [`Resource::meta`] has nothing.
pub(super) struct Whole<K> {
    pub(super) value: Value,
    metadata: ObjectMeta,
    kind: PhantomData<fn() -> K>,
}

impl<K> Whole<K> {
    /// The text at this JSON pointer; empty if there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The elements of the list at this JSON pointer; none if there is no list.
    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        self.value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }
}

impl<K> Clone for Whole<K> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), metadata: ObjectMeta::default(), kind: PhantomData }
    }
}

/// Says which object it is, and nothing of its content, which may be secret.
impl<K> fmt::Debug for Whole<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Whole").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl<K> Serialize for Whole<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, K> Deserialize<'de> for Whole<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let value = of_fields(text.get(), |name, field| match name {
            // Deep names of fields in it would make a bad object of a good one.
            "metadata" => of_fields(field, |name, field| (name != "managedFields").then(|| read(field))),
            _ => Some(read(field)),
        });
        let value = value.unwrap_or_else(|| read(text.get()));
        Ok(Self { value, metadata: ObjectMeta::default(), kind: PhantomData })
    }
}

/// An object of the fields that this makes of its own; `None` if the text is no object.
fn of_fields(text: &str, made_of: impl Fn(&str, &str) -> Option<Value>) -> Option<Value> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let fields = fields.into_iter().filter_map(|(name, field)| made_of(&name, field.get()).map(|value| (name, value)));
    Some(Value::Object(fields.collect::<Map<String, Value>>()))
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| UNREADABLE.into())
}

impl<K: Resource> Resource for Whole<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_stands_in_an_object_it_is_read() {
        let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        let text = format!(
            r#"[{{ "metadata": {{ "name": "a", "managedFields": {deep}, "creationTimestamp": "9999-12-31T23:59:59Z" }}, "spec": {{ "containers": 3 }}, "other": {deep}, "status": {{ "number": 1e999 }} }}]"#
        );
        let [found]: [Whole<Pod>; 1] = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "metadata": { "name": "a", "creationTimestamp": "9999-12-31T23:59:59Z" }, "spec": { "containers": 3 },
            "other": UNREADABLE, "status": UNREADABLE,
        });
        assert_eq!((found.name(), &found.value), ("a", &expected));
        assert_eq!((found.text("/spec/nodeName"), found.list("/spec/containers")), ("", &[][..]));
    }
}
