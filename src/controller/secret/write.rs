//! What is written to a Secret.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use serde_json::{Value, json};

use super::{
    ownership::{controller_reference, retained_for},
    read::{chain, is_from_ca, sha256, view_of},
};
use crate::{
    api::{
        DatabaseUserCertificate, DatabaseUserCertificateSpec, IssuerIdentity, SecretTemplate,
        names::{
            CA_DIGEST_ANNOTATION, CERTIFICATE_UID_LABEL, ISSUANCE_ANNOTATION, ISSUE_REASON_ANNOTATION, ISSUER_ANNOTATION,
            KEYSTORE_SERIAL_NUMBER_ANNOTATION, LAYOUT_ANNOTATION, NOT_AFTER_ANNOTATION, PREVIOUS_NOT_AFTER_ANNOTATION,
            PREVIOUS_SERIAL_NUMBER_ANNOTATION, RENEW_REQUESTED_ANNOTATION, RETAINED_FOR_ANNOTATION, SERIAL_NUMBER_ANNOTATION,
            TLS_CERTIFICATE, TLS_COMBINED, TLS_PRIVATE_KEY, TLS_SECRET_TYPE,
        },
    },
    certificate::CertificatePair,
    decide::{ChainView, KeystoreView, SecretView},
    layout::{Content, Entry, KeystorePassword, LayoutRecord, Previous, entries, keystore_entry},
};

/// What a Secret is to hold.
#[derive(Clone)]
pub struct SecretContent {
    /// The certificate and its key.
    pub pair: CertificatePair,
    /// PEM for `ca.crt`.
    pub ca_certificate: Option<String>,
    /// Who issued it, where that is known.
    pub issuer: Option<IssuerIdentity>,
    /// Why it was issued.
    pub issue_reason: Option<String>,
    /// The claim under which it was issued.
    pub issuance: Option<String>,
    /// The renewal request that it answers.
    pub renew_request: Option<String>,
}

/// What a Secret is to hold besides, and whoever issues does not know.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// The pair before this one.
    pub previous: PreviousPair,
    /// The password of the keystore. `None` if none is asked for, or it is not known now.
    pub keystore_password: Option<KeystorePassword>,
    /// Whether a keystore that cannot be made anew goes.
    pub keystore_goes: bool,
    /// The Secret that holds the password, if one is named.
    pub named_password: NamedPassword,
}

/// The pair before the one that is written.
#[derive(Clone, Debug, Default)]
pub enum PreviousPair {
    /// None is kept.
    #[default]
    Nothing,
    /// This one is kept.
    Kept(CertificatePair),
    /// What the Secret holds stays, because it could not be read.
    Untouched,
}

/// The password in the Secret that the spec names, as it was just read. Empty if the spec names none.
#[derive(Clone, Debug, Default)]
pub struct NamedPassword {
    /// The password, or why there is none.
    pub password: Option<KeystorePassword>,
    /// The UID and resourceVersion of the Secret, if there is one.
    pub version: Option<String>,
    /// Whether it could not be read, for a cause that passes by itself.
    pub is_passing: bool,
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretContent").field("pair", &self.pair).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A Secret as it is to be: null is for what is to be removed.
struct Wanted {
    labels: BTreeMap<String, Option<String>>,
    annotations: BTreeMap<String, Option<String>>,
    data: BTreeMap<String, Option<ByteString>>,
}

impl SecretContent {
    fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let facts = self.pair.facts();
        [
            (SERIAL_NUMBER_ANNOTATION, Some(facts.serial_number.to_string())),
            (NOT_AFTER_ANNOTATION, Some(facts.not_after.to_string())),
            (ISSUER_ANNOTATION, self.issuer.as_ref().map(ToString::to_string)),
            (ISSUE_REASON_ANNOTATION, self.issue_reason.clone()),
            (ISSUANCE_ANNOTATION, self.issuance.clone()),
            (RENEW_REQUESTED_ANNOTATION, self.renew_request.clone()),
            (CA_DIGEST_ANNOTATION, self.ca_certificate.as_deref().map(sha256)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn entries(&self, object: &DatabaseUserCertificate, additions: &Additions) -> BTreeMap<String, Entry> {
        entries(&Content {
            spec: &object.spec,
            pair: &self.pair,
            ca_certificate: self.ca_certificate.as_deref(),
            previous: additions.previous.as_content(),
            keystore_password: additions.keystore_password.as_ref(),
            keystore_goes: additions.keystore_goes,
        })
    }

    /// All that the Secret is to hold, and null for what `seen` holds for a former spec.
    fn wanted(&self, object: &DatabaseUserCertificate, additions: &Additions, seen: &LayoutRecord) -> Wanted {
        let entries = self.entries(object, additions);
        let record = LayoutRecord::of(&object.spec, &entries);
        let template = object.spec.secret_template.clone().unwrap_or_default();
        let mut labels = former(&seen.labels);
        labels.extend(given(template.labels));
        labels.extend(given(self::labels(object)));
        let mut annotations = former(&seen.annotations);
        annotations.extend(given(template.annotations));
        annotations.extend(self.annotations());
        annotations.insert(LAYOUT_ANNOTATION.to_owned(), record.to_annotation());
        match &additions.previous {
            PreviousPair::Untouched => {}
            previous => {
                let facts = previous.pair().map(CertificatePair::facts);
                let not_after = facts.map(|facts| facts.not_after.to_string());
                annotations.insert(PREVIOUS_NOT_AFTER_ANNOTATION.to_owned(), not_after);
                let serial_number = facts.map(|facts| facts.serial_number.to_string());
                annotations.insert(PREVIOUS_SERIAL_NUMBER_ANNOTATION.to_owned(), serial_number);
            }
        }
        let in_keystore = match keystore_entry(&object.spec, &entries) {
            Some(Entry::Untouched | Entry::Unavailable(_)) => None,
            Some(Entry::Value(_)) => Some(Some(self.pair.facts().serial_number.to_string())),
            Some(Entry::Absent | Entry::Gone(_)) | None => Some(None),
        };
        let in_keystore = in_keystore.map(|serial_number| (KEYSTORE_SERIAL_NUMBER_ANNOTATION.to_owned(), serial_number));
        annotations.extend(in_keystore);
        let mut data = former(&seen.entries);
        for (name, entry) in entries {
            match entry {
                Entry::Value(bytes) => data.insert(name, Some(ByteString(bytes.to_vec()))),
                Entry::Absent | Entry::Gone(_) => data.insert(name, None),
                Entry::Untouched | Entry::Unavailable(_) => data.remove(&name),
            };
        }
        Wanted { labels, annotations, data }
    }

    /// A new Secret.
    #[must_use]
    pub fn to_secret(&self, object: &DatabaseUserCertificate, additions: &Additions) -> Secret {
        let Wanted { labels, annotations, data } = self.wanted(object, additions, &LayoutRecord::default());
        Secret {
            metadata: ObjectMeta {
                labels: Some(present(labels)),
                annotations: Some(present(annotations).into_iter().chain(retained_annotation(object)).collect()),
                ..new_metadata(object)
            },
            type_: Some(TLS_SECRET_TYPE.to_owned()),
            data: Some(present(data)),
            ..Secret::default()
        }
    }

    /// A merge patch for a Secret of ours as it was seen: it fails with a conflict on any other. Labels, annotations and entries of others are
    /// not named in it and so survive. Without `additions` the further entries are not named either, because the spec cannot be read.
    ///
    /// The owners are not named either. A cluster may refuse to have them changed, and a certificate that was minted must be written all the
    /// same. [`ownership_patch`](crate::adoption::ownership_patch) alone changes them.
    #[must_use]
    pub fn to_patch(&self, object: &DatabaseUserCertificate, additions: Option<&Additions>, seen: &SecretView) -> Value {
        let wanted = match additions {
            Some(additions) => self.wanted(object, additions, &seen.layout),
            None => self.certificate_alone(object),
        };
        json!({
            "metadata": {
                "uid": seen.uid,
                "resourceVersion": seen.resource_version,
                "labels": wanted.labels,
                "annotations": wanted.annotations,
            },
            "data": wanted.data,
        })
    }

    fn certificate_alone(&self, object: &DatabaseUserCertificate) -> Wanted {
        let plain = DatabaseUserCertificate { spec: DatabaseUserCertificateSpec::default(), ..object.clone() };
        let mut wanted = self.wanted(&plain, &Additions::default(), &LayoutRecord::default());
        let of_spec = [
            LAYOUT_ANNOTATION,
            PREVIOUS_NOT_AFTER_ANNOTATION,
            PREVIOUS_SERIAL_NUMBER_ANNOTATION,
            KEYSTORE_SERIAL_NUMBER_ANNOTATION,
        ];
        wanted.annotations.retain(|name, _| !of_spec.contains(&name.as_str()));
        wanted
    }

    /// The Secret after the write that returned `written`, without looking at its data again.
    #[must_use]
    pub fn view(
        &self,
        object: &DatabaseUserCertificate,
        additions: Option<&Additions>,
        written: &ObjectMeta,
        wrong_type: Option<String>,
    ) -> SecretView {
        let ca_certificate = self.ca_certificate.as_deref().unwrap_or_default().as_bytes();
        let seen = view_of(written, Ok(self.pair.facts().clone()));
        let chain = if is_from_ca(&seen) { chain(&self.pair, ca_certificate) } else { ChainView::default() };
        let entries = additions.map(|additions| self.entries(object, additions));
        let complete = entries.as_ref().is_some_and(|entries| !entries.values().any(|entry| *entry == Entry::Untouched));
        let keystore = match (additions, &entries) {
            (Some(additions), Some(entries)) => additions.named_password.view(keystore_entry(&object.spec, entries), &seen),
            _ => seen.keystore.clone(),
        };
        SecretView { wrong_type, complete, chain, keystore, ..seen }
    }
}

impl From<Option<CertificatePair>> for PreviousPair {
    fn from(pair: Option<CertificatePair>) -> Self {
        pair.map_or(Self::Nothing, Self::Kept)
    }
}

impl PreviousPair {
    fn pair(&self) -> Option<&CertificatePair> {
        match self {
            Self::Kept(pair) => Some(pair),
            Self::Nothing | Self::Untouched => None,
        }
    }

    /// As the entries are made from it.
    #[must_use]
    pub fn as_content(&self) -> Previous<'_> {
        match self {
            Self::Nothing => Previous::Nothing,
            Self::Kept(pair) => Previous::Kept(pair),
            Self::Untouched => Previous::Untouched,
        }
    }
}

impl NamedPassword {
    /// What decisions need to know of it, and of a keystore that cannot be made.
    #[must_use]
    pub fn view(&self, keystore: Option<&Entry>, seen: &SecretView) -> KeystoreView {
        let fault = match keystore {
            Some(Entry::Unavailable(why) | Entry::Gone(why)) => Some(why.clone()),
            Some(Entry::Value(_) | Entry::Absent | Entry::Untouched) | None => None,
        };
        KeystoreView { fault, password: self.version.clone(), is_passing: self.is_passing, ..seen.keystore.clone() }
    }
}

/// A Secret like the one that will be written, but without a key: to ask the API server whether it would take it.
#[must_use]
pub fn placeholder(object: &DatabaseUserCertificate) -> Secret {
    let empty = || ByteString(Vec::new());
    Secret {
        metadata: new_metadata(object),
        type_: Some(TLS_SECRET_TYPE.to_owned()),
        data: Some([(TLS_CERTIFICATE.to_owned(), empty()), (TLS_PRIVATE_KEY.to_owned(), empty())].into()),
        ..Secret::default()
    }
}

/// The same as a patch. It touches the data, because an immutable Secret still takes labels.
#[must_use]
pub fn placeholder_patch(object: &DatabaseUserCertificate, seen: &SecretView) -> Value {
    let ObjectMeta { labels, annotations, .. } = new_metadata(object);
    // The write that is asked about leaves the owners as they are.
    let annotations: BTreeMap<_, _> =
        annotations.unwrap_or_default().into_iter().filter(|(key, _)| key != RETAINED_FOR_ANNOTATION).collect();
    json!({
        "metadata": {
            "uid": seen.uid,
            "resourceVersion": seen.resource_version,
            "labels": labels,
            "annotations": annotations,
        },
        "data": { TLS_COMBINED: ByteString(b"placeholder".to_vec()) },
    })
}

/// The metadata of a new Secret, with the template's labels and annotations: admission policies may ask for them.
fn new_metadata(object: &DatabaseUserCertificate) -> ObjectMeta {
    let SecretTemplate { labels: mut all_labels, mut annotations } = object.spec.secret_template.clone().unwrap_or_default();
    all_labels.extend(labels(object));
    annotations.extend(retained_annotation(object));
    ObjectMeta {
        name: Some(object.secret_name()),
        namespace: object.namespace(),
        labels: Some(all_labels),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: controller_reference(object).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The annotation of a Secret that is retained.
fn retained_annotation(object: &DatabaseUserCertificate) -> Option<(String, String)> {
    retained_for(object).map(|name| (RETAINED_FOR_ANNOTATION.to_owned(), name))
}

/// The label that makes a Secret ours.
pub fn labels(object: &DatabaseUserCertificate) -> BTreeMap<String, String> {
    [(CERTIFICATE_UID_LABEL.to_owned(), object.uid().unwrap_or_default())].into()
}

/// What is removed unless it is wanted still.
fn former<'a, T>(names: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, Option<T>> {
    names.into_iter().map(|name| (name.clone(), None)).collect()
}

fn given(values: BTreeMap<String, String>) -> impl Iterator<Item = (String, Option<String>)> {
    values.into_iter().map(|(key, value)| (key, Some(value)))
}

fn present<T>(values: BTreeMap<String, Option<T>>) -> BTreeMap<String, T> {
    values.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
}
