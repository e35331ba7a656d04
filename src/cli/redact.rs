//! What is taken out of objects and texts before they are told: of a report, and of what a credential plugin says.
//!
//! # Guarantees
//!
//! - An object keeps only labels and annotations of this operator and of Kubernetes' own recommendation (`app.kubernetes.io`). Others may
//!   hold anything: `last-applied-configuration` of a Secret holds the Secret.
//! - No value of an environment variable or of a probe's header, no argument of a container beside the operator's, of its probes and of its
//!   hooks, no `data` and no `stringData` stays.
//! - A field with the name of a secret loses its texts and numbers. An object in it stays, and is looked through like any other: `privateKey`
//!   of a spec has one.
//! - Private keys, tokens, and passwords are taken out of every text, logs included, whoever wrote them there ([`text`]).

mod rules;
mod text;

use serde_json::{Map, Value};
use usercert_operator_core::api::names::GROUP;

pub(crate) use self::text::redacted;
use self::text::{TAKEN_OUT, is_secret};

/// The prefixes of labels and annotations that stay.
const KEPT_PREFIXES: &[&str] = &[GROUP, "app.kubernetes.io", "helm.sh"];

/// Fields that hold what must not be seen, wherever they stand and whatever they are.
const TAKEN_FIELDS: &[&str] = &[
    "data",
    "stringData",
    "binaryData",
    "password",
    "token",
    "clientSecret",
    "privateApiKey",
    "caBundle",
    "volumeAttributes",
    "flexVolume",
];

/// The operator's container in the chart. None of its arguments is secret.
pub(crate) const OPERATOR: &str = "operator";

/// Takes everything out of an object that must not be seen.
pub(crate) fn redact(value: &mut Value) {
    redact_part(value, false);
}

/// The same for a part. `is_of_operator`: it is in the operator's own container.
fn redact_part(value: &mut Value, is_of_operator: bool) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            if ["name", "key"].iter().any(|field| fields.get(*field).and_then(Value::as_str).is_some_and(is_secret)) {
                redact_variable(fields);
            }
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), value) {
                    ("labels" | "annotations", Value::Object(marks)) => {
                        marks.retain(|mark, _| mark.split_once('/').is_some_and(|(prefix, _)| KEPT_PREFIXES.contains(&prefix)));
                        marks.values_mut().for_each(redact);
                    }
                    ("containers", Value::Array(containers)) => {
                        for container in containers {
                            let is_of_operator = container["name"] == OPERATOR;
                            redact_part(container, is_of_operator);
                        }
                    }
                    // `status.verified` has the version of a password and the algorithm of a key.
                    ("verified", Value::Object(fields)) => {
                        fields.values_mut().for_each(|value| redact_part(value, is_of_operator));
                    }
                    ("env" | "httpHeaders", Value::Array(variables)) => {
                        variables.iter_mut().filter_map(Value::as_object_mut).for_each(redact_variable);
                    }
                    ("args" | "command", Value::Array(words)) if !is_of_operator => words.iter_mut().for_each(redact_argument),
                    (key, value) if TAKEN_FIELDS.contains(&key) && !value.is_null() => *value = TAKEN_OUT.into(),
                    (key, value) if is_secret(key) => redact_value(value),
                    (_, value) => redact_part(value, is_of_operator),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redact_part(value, is_of_operator)),
        Value::String(text) => *text = redacted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The value of a field with the name of a secret. An object tells something about it: `privateKey: {algorithm: ECDSA}`.
fn redact_value(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(redact_value),
        Value::String(_) | Value::Number(_) => *value = TAKEN_OUT.into(),
        Value::Object(_) => redact(value),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The name of a variable or of a header tells enough.
fn redact_variable(variable: &mut Map<String, Value>) {
    if let Some(value) = variable.get_mut("value") {
        *value = TAKEN_OUT.into();
    }
}

/// The name of a flag tells enough. A flag of one letter may have its value behind it: `-psecret`. One word may have both: `--password secret`.
fn redact_argument(word: &mut Value) {
    let flag = word.as_str().filter(|word| word.starts_with('-')).unwrap_or_default();
    let name = if flag.starts_with("--") {
        flag.split_inclusive(|character: char| character == '=' || character.is_whitespace()).next()
    } else {
        flag.char_indices().nth(2).map(|(end, _)| &flag[..end])
    };
    match name {
        Some(name) if name.len() < flag.len() => *word = format!("{name}{TAKEN_OUT}").into(),
        None if flag.is_empty() => *word = TAKEN_OUT.into(),
        _ => {}
    }
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
            "spec": { "secretName": "orders", "containers": [{ "name": "sidecar", "args": ["secret", "--password", "secret", "--key=secret", "--requirepass secret", "--eval\tsecret=secret", "--user secret --pass=secret"], "env": [{ "name": "A", "value": "secret" }, { "name": "B", "valueFrom": {} }] },
                { "name": OPERATOR, "args": ["run", "--log-level=debug"] }], "initContainers": [{ "name": OPERATOR, "command": ["secret"] }] },
            "status": { "message": "postgres://a:secret@host" },
        });
        redact(&mut object);
        // What was taken out stays out.
        redact(&mut object);
        let text = object.to_string();
        assert!(
            !text.contains("\"secret\"")
                && !text.contains("=secret")
                && !text.contains(":secret@")
                && !text.contains(" secret")
                && !text.contains("\\tsecret")
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
            "\"--requirepass [taken out]\"",
            "\"--user [taken out]\"",
            "--log-level=debug",
        ] {
            assert!(text.contains(kept), "{kept} is missing: {text}");
        }
    }
    #[test]
    fn fields_with_the_names_of_secrets_keep_objects_alone() {
        let mut object = json!({
            "metadata": { "name": "atlas-token", "uid": "3f2b1c00", "annotations": { "usercert.dev/adopt-secret": "true" } },
            "spec": {
                "privateKey": { "algorithm": "ECDSA", "size": 256 }, "secretName": "orders-token", "passwordSecretRef": { "name": "b", "key": "password" },
                "volumes": [{ "secret": { "secretName": "c-secret" } }], "imagePullSecrets": [{ "name": "d" }],
                "automountServiceAccountToken": true, "token": null,
            },
            "status": { "serialNumber": "0A", "verified": { "keystorePassword": "uid/42", "privateKey": "ECDSA 256", "message": "token=hunter2" } },
            "answer": {
                "privateApiKey": "hunter2", "password": { "value": "hunter2" }, "tokens": ["hunter2", { "expires": "soon", "password": 4_242_424 }], "pwd": 4_242_424,
                "parameters": [{ "name": "MONGO_PASSWORD", "value": "hunter2" }, { "key": "client-secret", "value": { "a": "hunter2" } }],
            },
        });
        redact(&mut object);
        let text = object.to_string();
        assert!(!text.contains("hunter2") && !text.contains("4242424"), "{text}");
        for kept in [
            "atlas-token",
            "3f2b1c00",
            r#"adopt-secret":"true"#,
            "ECDSA\"",
            "orders-token",
            r#""key":"password"#,
            "c-secret",
            r#""name":"d"#,
            r#"Token":true"#,
            r#""token":null"#,
            "0A",
            "uid/42",
            "ECDSA 256",
            r#""expires":"soon"#,
            "MONGO_PASSWORD",
            "client-secret",
        ] {
            assert!(text.contains(kept), "{kept} is missing: {text}");
        }
    }
    #[test]
    fn probes_and_hooks_keep_neither_arguments_nor_headers() {
        let probe = json!({ "exec": { "command": ["redis-cli", "-a", "secret", "-psecret", "--pass=secret", "ping"] } });
        let request = json!({ "httpGet": { "path": "/health?token=secret", "port": 1, "httpHeaders": [{ "name": "X-Key", "value": "secret" }] } });
        let container = |name: &str| json!({ "name": name, "livenessProbe": probe, "readinessProbe": request, "lifecycle": { "preStop": probe, "postStart": request } });
        let mut pod = json!({ "spec": {
            "containers": [container("sidecar")], "initContainers": [container("first")], "ephemeralContainers": [container(OPERATOR)],
            "volumes": [{ "name": "v", "csi": { "driver": "d", "volumeAttributes": { "key": "secret" } } }, { "name": "f", "flexVolume": { "driver": "d", "options": { "key": "secret" } } }],
        } });
        redact(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("secret"), "{text}");
        for kept in ["\"-a\"", "\"-p[taken out]\"", "--pass=[taken out]", "X-Key", "/health?token=[taken out]"] {
            assert!(text.contains(kept), "{kept} is missing: {text}");
        }
    }
}
