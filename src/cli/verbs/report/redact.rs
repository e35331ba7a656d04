//! What is taken out of a report.
//!
//! # Guarantees
//!
//! - An object keeps only labels and annotations of this operator and of Kubernetes' own recommendation (`app.kubernetes.io`). Others may
//!   hold anything: `last-applied-configuration` of a Secret holds the Secret.
//! - No value of an environment variable, no argument of a container beside the operator's, no `data` and no `stringData` stays.
//! - Private keys in PEM, tokens, and passwords are taken out of every text, logs included, whoever wrote them there ([`text`]).

mod text;

use serde_json::Value;
use usercert_operator_core::api::names::GROUP;

pub(crate) use self::text::redacted;

/// What stands in the place of what was taken out.
pub(super) const TAKEN_OUT: &str = "[taken out]";

/// The prefixes of labels and annotations that stay.
const KEPT_PREFIXES: &[&str] = &[GROUP, "app.kubernetes.io", "helm.sh"];

/// Fields that hold what must not be seen, wherever they stand.
const TAKEN_FIELDS: &[&str] =
    &["data", "stringData", "binaryData", "password", "token", "clientSecret", "privateApiKey", "caBundle"];

/// The operator's container in the chart. None of its arguments is secret.
const OPERATOR: &str = "operator";

/// Takes everything out of an object that must not be seen.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            let is_of_another = fields.get("name").is_some_and(|name| name != OPERATOR);
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), value) {
                    ("labels" | "annotations", Value::Object(marks)) => {
                        marks.retain(|mark, _| mark.split_once('/').is_some_and(|(prefix, _)| KEPT_PREFIXES.contains(&prefix)));
                        marks.values_mut().for_each(redact);
                    }
                    ("env", Value::Array(variables)) => variables.iter_mut().for_each(redact_variable),
                    ("args" | "command", Value::Array(words)) if is_of_another => words.iter_mut().for_each(redact_argument),
                    (key, value) if TAKEN_FIELDS.contains(&key) && !value.is_null() => *value = TAKEN_OUT.into(),
                    (_, value) => redact(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::String(text) => *text = redacted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name of a variable tells enough.
fn redact_variable(variable: &mut Value) {
    if let Some(value) = variable.get_mut("value") {
        *value = TAKEN_OUT.into();
    }
}

/// The name of a flag tells enough.
fn redact_argument(word: &mut Value) {
    let name = word.as_str().filter(|word| word.starts_with('-')).unwrap_or_default();
    *word = match name.split_once('=') {
        Some((name, _)) => format!("{name}={TAKEN_OUT}").into(),
        None if name.is_empty() => TAKEN_OUT.into(),
        None => name.into(),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_must_not_be_seen_is_taken_out_of_objects() {
        let mut object = json!({
            "metadata": {
                "name": "orders", "managedFields": [{ "manager": "m" }],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "secret", "usercert.dev/serial-number": "0A", "team": "secret" },
                "labels": { "app.kubernetes.io/name": "a", "secret": "secret" },
            },
            "data": { "tls.key": "secret" }, "stringData": { "a": "secret" },
            "spec": { "secretName": "orders", "containers": [{ "name": "sidecar", "args": ["secret", "--password", "secret", "--key=secret"], "env": [{ "name": "A", "value": "secret" }, { "name": "B", "valueFrom": {} }] }] },
            "status": { "message": "postgres://a:secret@host" },
        });
        redact(&mut object);
        object["spec"]["of_the_operator"] = json!({ "name": OPERATOR, "args": ["run", "--log-level=debug"] });
        redact(&mut object);
        let text = object.to_string();
        assert!(
            !text.contains("\"secret\"")
                && !text.contains("=secret")
                && !text.contains(":secret@")
                && !text.contains("managedFields"),
            "{text}"
        );
        for kept in [
            "0A",
            "\"A\"",
            "secretName",
            "app.kubernetes.io/name",
            "valueFrom",
            "--password",
            "--key=[taken out]",
            "--log-level=debug",
        ] {
            assert!(text.contains(kept), "{kept} is missing: {text}");
        }
    }
}
