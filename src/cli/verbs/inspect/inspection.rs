//! All that `inspect` tells.

use jiff::Timestamp;
use serde::Serialize;

/// All that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inspection {
    /// The file, or the Secret.
    pub(super) source: String,
    pub(super) certificates: Vec<ToldCertificate>,
    pub(super) key: KeyFit,
    /// Whether the first certificate is for client authentication; known only together with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) for_clients: Option<bool>,
    /// Whether the chain leads to the CA; absent where no CA is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leads_to_ca: Option<bool>,
    /// When the chain ends: the first of the certificates above the leaf expires, the CA among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain_ends: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<ToldSecret>,
    /// What is wrong, each as a sentence.
    pub(super) problems: Vec<String>,
    /// What was not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// A certificate of the chain, the leaf first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToldCertificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial_number: String,
    pub(super) private_key: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Whether it is the certificate of the key, or one that signed a certificate below it.
    #[serde(skip)]
    pub(super) place: Place,
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The one whose key it is.
    Leaf,
    /// It signed the leaf, or a certificate that did.
    Above,
    /// It signed none of them.
    Beside,
}

/// Whether the key fits the first certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum KeyFit {
    Fits,
    DoesNotFit,
    Absent,
}

/// What is around the certificate in a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToldSecret {
    #[serde(rename = "type")]
    pub(super) type_: String,
    /// The names of its entries.
    pub(super) entries: Vec<String>,
    /// The controller, as kind and name.
    pub(super) controller: Option<String>,
    /// The Pods that use it, and how.
    pub(super) consumers: Vec<Consumer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consumer {
    pub(super) pod: String,
    /// What made the Pod, as kind and name.
    pub(super) made_by: Option<String>,
    pub(super) uses: &'static str,
    /// Whether a running Pod gets a new certificate without a restart.
    pub(super) updated_in_place: bool,
}
