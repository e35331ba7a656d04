//! What the Secret holds besides the certificate, its key and the CA: entries in further formats, labels, annotations.

use std::collections::BTreeMap;

use kube_derive::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::forms::NAME_PATTERN;

/// The CEL expression for the entry that a format is written to.
macro_rules! key_of {
    ($format:literal) => {
        concat!(
            "(has(",
            $format,
            ".key) ? ",
            $format,
            ".key : {'PKCS12': 'keystore.p12', 'PKCS8DER': 'tls.pk8', 'CombinedPEM': 'mongodb.pem', 'Chain': 'chain.pem', 'CA': 'root.crt'}[",
            $format,
            ".type])"
        )
    };
}

/// The CEL rule that no two formats are written to one entry.
macro_rules! keys_are_unique {
    () => {
        concat!("self.all(a, self.exists_one(b, ", key_of!("a"), " == ", key_of!("b"), "))")
    };
}

pub(super) use {key_of, keys_are_unique};

/// A further entry of the Secret.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'PKCS12' || !(has(self.alias) || has(self.passwordSecretRef))").message("alias and passwordSecretRef are for type PKCS12"))]
pub struct SecretFormat {
    /// `PKCS12`: a keystore with the key and all certificates of `tls.crt`. It trusts no CA: `ca.crt` signed the client
    /// certificate, and a database may have its certificate from another CA. `PKCS8DER`: the key in binary form, for the
    /// JDBC driver of PostgreSQL. `CombinedPEM`: a copy of `tls-combined.pem`. `Chain`: the certificates of `tls.crt` after
    /// the first; there is no entry if there are none. `CA`: a copy of `ca.crt`; there is no entry if there is no `ca.crt`.
    #[serde(rename = "type")]
    pub type_: FormatType,
    /// The name of the entry. Default: `keystore.p12` (`PKCS12`), `tls.pk8` (`PKCS8DER`), `mongodb.pem`
    /// (`CombinedPEM`), `chain.pem` (`Chain`), `root.crt` (`CA`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    #[x_kube(validation = Rule::new("self != '.' && !self.startsWith('..')").message("key must not be '.' and not begin with '..'"))]
    #[x_kube(validation = Rule::new("!self.startsWith('previous-') && !(self in ['tls.crt', 'tls.key', 'tls-combined.pem', 'ca.crt', 'keystore-password', 'type', 'provider', 'host', 'port', 'uri', 'username', 'password', 'database', 'certificates', 'private-key'])").message("key must be another name: the operator or service bindings use this one"))]
    pub key: Option<String>,
    /// PKCS12: the alias (friendly name) of the key, in lower case, as Java has it. Default: `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$"))]
    pub alias: Option<String>,
    /// PKCS12: the password, as an entry of another Secret of the same namespace. By default the operator makes one and keeps
    /// it in the entry `keystore-password` of the certificate's Secret. A password has 1 to 512 printable
    /// ASCII characters. A change of it is followed, without a new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyReference>,
}

/// The forms in which a certificate can be written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum FormatType {
    /// Key and certificates as PKCS#12 (RFC 7292).
    #[serde(rename = "PKCS12")]
    Pkcs12,
    /// The key as PKCS#8 in DER.
    #[serde(rename = "PKCS8DER")]
    Pkcs8Der,
    /// Certificates, then the key, as PEM.
    #[serde(rename = "CombinedPEM")]
    CombinedPem,
    /// The intermediate certificates as PEM.
    Chain,
    /// The CA as PEM.
    #[serde(rename = "CA")]
    Ca,
}

/// An entry of a Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(length(max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// The entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Labels and annotations for the Secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq, Eq)]
pub struct SecretTemplate {
    /// Labels. Those that others put on the Secret stay.
    #[serde(default, deserialize_with = "null_as_empty", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_values")]
    #[x_kube(validation = key_rule!())]
    #[x_kube(validation = prefix_rule!())]
    pub labels: BTreeMap<String, String>,
    /// Annotations, whose values have at most 16384 bytes together. Those that others put on the Secret stay.
    #[serde(default, deserialize_with = "null_as_empty", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotation_values")]
    #[x_kube(validation = kube_core::Rule::new("self.map(k, bytes(self[k]).size()).sum() <= 16384").message("the values of annotations have at most 16384 bytes together"))]
    #[x_kube(validation = key_rule!())]
    #[x_kube(validation = prefix_rule!())]
    pub annotations: BTreeMap<String, String>,
}

/// The CEL rule for keys of labels and annotations: those that Kubernetes takes.
macro_rules! key_rule {
    () => {
        kube_core::Rule::new("self.all(k, k.indexOf('/') <= 253 && k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("a key is a name of at most 63 letters, digits, '-', '_' and '.', with an optional DNS name and '/' before it")
    };
}

/// The CEL rule for keys of labels and annotations that others go by.
macro_rules! prefix_rule {
    () => {
        kube_core::Rule::new("!self.exists(k, k.matches('^([^/]*[.])?(kubernetes[.]io|k8s[.]io|usercert[.]dev|atlas[.]mongodb[.]com)/'))")
            .message("keys with the prefixes kubernetes.io, k8s.io, usercert.dev and atlas.mongodb.com, and those below them, are not for the template: Kubernetes, this operator and the Atlas Kubernetes Operator go by them")
    };
}

use {key_rule, prefix_rule};

/// Server-side apply makes null of an empty map that was not empty before.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::<BTreeMap<String, String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// At most 16 values of labels.
fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$" },
    })
}

/// At most 16 values of annotations. A rule bounds their bytes, because every object is in memory whole, and a character has up to four bytes.
fn annotation_values(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": "string", "maxLength": 4096 });
    json_schema!({ "type": "object", "nullable": true, "maxProperties": 16, "additionalProperties": value })
}

impl FormatType {
    /// The entry that this format is written to unless the spec names another. The CEL rule for unique names has the same
    /// list.
    #[must_use]
    pub const fn default_key(self) -> &'static str {
        match self {
            Self::Pkcs12 => "keystore.p12",
            Self::Pkcs8Der => "tls.pk8",
            Self::CombinedPem => "mongodb.pem",
            Self::Chain => "chain.pem",
            Self::Ca => "root.crt",
        }
    }
}

impl SecretFormat {
    /// The entry that this format is written to.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(self.type_.default_key())
    }

    /// The alias of the key in a keystore.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.alias.as_deref().unwrap_or("certificate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_unique_names_knows_the_default_of_each_type() {
        use FormatType::{Ca, Chain, CombinedPem, Pkcs8Der, Pkcs12};
        for (type_, name) in
            [(Pkcs12, "PKCS12"), (Pkcs8Der, "PKCS8DER"), (CombinedPem, "CombinedPEM"), (Chain, "Chain"), (Ca, "CA")]
        {
            assert_eq!(serde_json::to_value(type_).ok(), Some(name.into()));
            assert!(key_of!("f").contains(&format!("'{name}': '{}'", type_.default_key())), "{name}");
        }
    }
}
