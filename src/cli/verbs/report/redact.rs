//! What is taken out of a report.
//!
//! # Guarantees
//!
//! - An object keeps only labels and annotations of this operator and of Kubernetes' own recommendation (`app.kubernetes.io`). Others may
//!   hold anything: `last-applied-configuration` of a Secret holds the Secret.
//! - No value of an environment variable, no `data` and no `stringData` stays.
//! - Private keys in PEM, tokens, and passwords in URLs are taken out of every text, logs included, whoever wrote them there.

use serde_json::Value;
use usercert_operator_core::api::names::GROUP;

/// What stands in the place of what was taken out.
const TAKEN_OUT: &str = "[taken out]";

/// The prefixes of labels and annotations that stay.
const KEPT_PREFIXES: &[&str] = &[GROUP, "app.kubernetes.io", "helm.sh"];

/// Fields that hold what must not be seen, wherever they stand.
const TAKEN_FIELDS: &[&str] = &["data", "stringData", "binaryData", "password", "token", "caBundle"];

/// Words before a value that must not be seen, in texts.
const MARKS: &[&str] = &["bearer ", "basic ", "authorization: ", "password=", "password: ", "client_secret=", "access_token="];

/// The least length of a token that is recognised by its form.
const TOKEN: usize = 20;

/// Takes everything out of an object that must not be seen.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), value) {
                    ("labels" | "annotations", Value::Object(marks)) => {
                        marks.retain(|mark, _| mark.split_once('/').is_some_and(|(prefix, _)| KEPT_PREFIXES.contains(&prefix)));
                        marks.values_mut().for_each(redact);
                    }
                    ("env", Value::Array(variables)) => variables.iter_mut().for_each(redact_variable),
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

/// The text without what must not be seen.
pub(super) fn redacted(text: &str) -> String {
    let text = without_keys(text);
    let lines: Vec<String> = text.split('\n').map(|line| without_tokens(&without_passwords(line))).collect();
    lines.join("\n")
}

/// Takes out what stands between the begin of a private key in PEM and its end, or the end of the text.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    const KEY: &str = "PRIVATE KEY-----";
    let (mut result, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(begin);
        let label_ends = block[BEGIN.len()..].find("-----").map_or(block.len(), |at| BEGIN.len() + at + 5);
        result.push_str(before);
        if !block[..label_ends].ends_with(KEY) {
            result.push_str(&block[..label_ends]);
            rest = &block[label_ends..];
            continue;
        }
        result.push_str(TAKEN_OUT);
        let end = block.find(END).and_then(|end| Some(end + END.len() + block[end + END.len()..].find("-----")? + 5));
        rest = end.map_or("", |end| &block[end..]);
    }
    result + rest
}

/// Takes out what stands between `://` and `@` in URLs, and after words that announce a secret.
fn without_passwords(line: &str) -> String {
    let (mut result, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        result.push_str(before);
        let authority = after.find(|character: char| "/?#\"' \t".contains(character)).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(end) => {
                result.push_str(TAKEN_OUT);
                &after[end..]
            }
            None => after,
        };
    }
    result.push_str(rest);
    for mark in MARKS {
        result = without_value_after(&result, mark);
    }
    result
}

fn without_value_after(line: &str, mark: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let (mut result, mut from) = (String::new(), 0);
    while let Some(found) = lower[from..].find(mark) {
        let begin = from + found + mark.len();
        let value = &line[begin..];
        let end =
            value.find(|character: char| character.is_whitespace() || "\"',&;".contains(character)).unwrap_or(value.len());
        result.push_str(&line[from..begin]);
        if end > 0 {
            result.push_str(TAKEN_OUT);
        }
        from = begin + end;
    }
    result + &line[from..]
}

/// Takes out JSON Web Tokens (RFC 7519): three parts of base64url, the first of which begins with `eyJ`.
fn without_tokens(line: &str) -> String {
    let is_of_token = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let (mut result, mut rest) = (String::new(), line);
    while let Some(at) = rest.find("eyJ") {
        let (before, after) = rest.split_at(at);
        let end = after.find(|character| !is_of_token(character)).unwrap_or(after.len());
        let is_token = end >= TOKEN && after[..end].matches('.').count() == 2;
        result.push_str(before);
        result.push_str(if is_token { TAKEN_OUT } else { &after[..end] });
        rest = &after[end..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::a_key("a -----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY----- b", "a [taken out] b")]
    #[case::a_key_of_another_kind("-----BEGIN RSA PRIVATE KEY-----\\nMIIB\\n-----END RSA PRIVATE KEY-----", "[taken out]")]
    #[case::a_key_without_its_end("x -----BEGIN EC PRIVATE KEY-----\nMIIB", "x [taken out]")]
    #[case::two_keys(
        "-----BEGIN PRIVATE KEY-----A-----END PRIVATE KEY-----,-----BEGIN PRIVATE KEY-----B-----END PRIVATE KEY-----",
        "[taken out],[taken out]"
    )]
    #[case::a_certificate_stays(
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    )]
    #[case::a_url(
        "see mongodb://user:pass@host/db and https://host/a@b",
        "see mongodb://[taken out]@host/db and https://host/a@b"
    )]
    #[case::a_bearer("Authorization: Bearer abc.def, more", "Authorization: [taken out] [taken out], more")]
    #[case::a_password("error password=hunter2; next", "error password=[taken out]; next")]
    #[case::a_token("sa eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl end", "sa [taken out] end")]
    #[case::no_token("eyJust a word eyJ.x", "eyJust a word eyJ.x")]
    #[case::other_letters("größer://übel:pässe@höst", "größer://[taken out]@höst")]
    #[case::plain("certificate 0A for CN=orders is valid", "certificate 0A for CN=orders is valid")]
    fn what_must_not_be_seen_is_taken_out_of_texts(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(redacted(text), expected);
    }

    #[test]
    fn what_must_not_be_seen_is_taken_out_of_objects() {
        let mut object = json!({
            "metadata": {
                "name": "orders", "managedFields": [{ "manager": "m" }],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "secret", "usercert.dev/serial-number": "0A", "team": "secret" },
                "labels": { "app.kubernetes.io/name": "a", "secret": "secret" },
            },
            "data": { "tls.key": "secret" }, "stringData": { "a": "secret" },
            "spec": { "secretName": "orders", "containers": [{ "env": [{ "name": "A", "value": "secret" }, { "name": "B", "valueFrom": {} }] }] },
            "status": { "message": "postgres://a:secret@host" },
        });
        redact(&mut object);
        let text = object.to_string();
        assert!(!text.contains("\"secret\"") && !text.contains(":secret@") && !text.contains("managedFields"), "{text}");
        for kept in ["0A", "\"A\"", "secretName", "app.kubernetes.io/name", "valueFrom"] {
            assert!(text.contains(kept), "{kept} is missing: {text}");
        }
    }
}
