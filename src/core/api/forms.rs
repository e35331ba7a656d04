//! Forms of values that several definitions share.

use schemars::Schema;
use serde_json::{Value, json};

/// A DNS subdomain (RFC 1123), the form of object names.
pub(super) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A CEL expression: the text is a duration in hours, minutes and seconds, each at most once and in this order.
macro_rules! is_duration {
    ($text:literal) => {
        concat!($text, ".matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$')")
    };
}

/// The CEL rule of a duration field: at least this long. A `pattern` would not do, because the API server answers a value
/// that does not match it with the regular expression instead of a message.
macro_rules! duration_rule {
    ($field:literal, $least:literal) => {
        kube_core::Rule::new(concat!(
            $crate::api::forms::is_duration!("self"),
            " && duration(self) >= duration('",
            $least,
            "')"
        ))
        .message(concat!(
            $field,
            " must be ",
            $least,
            " or more, in h, m and s as in 2160h or 1h30m; for days use hours: 30 days is 720h"
        ))
    };
}

/// Bounds the schema of a label selector, because every object is in memory whole: 16 labels and 16 expressions of up to 32 values.
pub(super) fn bound_selector(schema: &mut Schema) {
    let mut bound = |place: &str, keyword: &str, value: Value| {
        if let Some(Value::Object(part)) = schema.pointer_mut(place) {
            part.insert(keyword.to_owned(), value);
        }
    };
    bound("/properties/matchLabels", "maxProperties", json!(16));
    bound("/properties/matchLabels/additionalProperties", "maxLength", json!(63));
    let rule = json!([{ "rule": "self.all(k, k.size() <= 317)", "message": "a label's key has at most 317 characters" }]);
    bound("/properties/matchLabels", "x-kubernetes-validations", rule);
    bound("/properties/matchExpressions", "maxItems", json!(16));
    let of_expression = |field: &str| format!("/properties/matchExpressions/items/properties/{field}");
    bound(&of_expression("key"), "maxLength", json!(317));
    bound(&of_expression("operator"), "maxLength", json!(16));
    bound(&of_expression("values"), "maxItems", json!(32));
    bound(&of_expression("values/items"), "maxLength", json!(63));
}

pub(super) use {duration_rule, is_duration};
