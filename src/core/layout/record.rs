//! The annotation that says what of a Secret is there because the spec asked for it.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Entry;
use crate::api::{
    DatabaseUserCertificateSpec, SecretTemplate,
    names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY},
};

/// What of a Secret is there because the spec asked for it. Empty for a Secret without further entries, labels and annotations.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct LayoutRecord {
    /// Digest of what the spec asked for ([`digest`]).
    pub digest: String,
    /// The names of the entries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub entries: BTreeSet<String>,
    /// The keys of the labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// The keys of the annotations.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub annotations: BTreeSet<String>,
}

/// A digest of all that the spec asks for beside the certificate itself. Empty if that is nothing.
///
/// A field that is added to what is asked for must be left out of the JSON while it has its default, and a further part must not be named while
/// it is empty: otherwise an upgrade rewrites every Secret.
#[must_use]
pub fn digest(spec: &DatabaseUserCertificateSpec) -> String {
    let template = spec.secret_template.as_ref().filter(|template| **template != SecretTemplate::default());
    // The entries of the connection name the user too.
    let connection = spec.connection.as_ref().map(|connection| (connection, &spec.username, &spec.subject));
    if spec.formats.is_empty() && template.is_none() && !spec.keep_previous && connection.is_none() {
        return String::new();
    }
    let asked_for = json!([spec.formats, template, spec.keep_previous, connection]).to_string();
    hex::encode(&hash(&SHA256, asked_for.as_bytes()).as_ref()[..8])
}

/// Stands for the digest in a record that cannot be read.
const UNREADABLE: &str = "unreadable";

impl LayoutRecord {
    /// What is written for this spec.
    #[must_use]
    pub fn of(spec: &DatabaseUserCertificateSpec, entries: &BTreeMap<String, Entry>) -> Self {
        let always = [TLS_CERTIFICATE, TLS_PRIVATE_KEY, TLS_COMBINED, CA_CERTIFICATE];
        let optional = entries.keys().filter(|name| !always.contains(&name.as_str())).cloned();
        let keys = |of: fn(&SecretTemplate) -> &BTreeMap<String, String>| {
            spec.secret_template.iter().flat_map(|template| of(template).keys().cloned()).collect()
        };
        Self {
            digest: digest(spec),
            entries: optional.collect(),
            labels: keys(|template| &template.labels),
            annotations: keys(|template| &template.annotations),
        }
    }

    /// From the annotation. One that cannot be read is the record of no spec, so it is written anew.
    #[must_use]
    pub fn from_annotation(text: Option<&str>) -> Self {
        let unreadable = || Self { digest: UNREADABLE.to_owned(), ..Self::default() };
        text.map_or_else(Self::default, |text| serde_json::from_str(text).unwrap_or_else(|_| unreadable()))
    }

    /// Whether it could be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.digest != UNREADABLE
    }

    /// The annotation. `None` if there is nothing to record.
    #[must_use]
    pub fn to_annotation(&self) -> Option<String> {
        if *self == Self::default() { None } else { serde_json::to_string(self).ok() }
    }
}
