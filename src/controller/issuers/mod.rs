//! The issuers, loaded with their Secrets. Certificates find theirs here, in memory.

pub mod atlas_objects;
pub mod controller;
mod credentials;
pub mod lending;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tracing::{info, warn};
use url::Url;

use crate::{
    api::{
        AtlasApiVersion as SpecApiVersion, AtlasIssuerSpec, CaIssuerSpec, IssuerIdentity, IssuerKey, IssuerKind, IssuerSource,
        IssuerSpec, Reason,
        names::{CREDENTIALS_NOT_AFTER_ANNOTATION, TLS_CERTIFICATE, TLS_PRIVATE_KEY},
    },
    decide::{Allow, CaFacts, IssuerFacts, IssuingMethod, parse_duration},
    issuer::{
        Issuer,
        atlas::{AtlasAccess, AtlasApiVersion, AtlasClient, AtlasCredentials, AtlasIssuer, AtlasSettings, Words},
        ca::CaIssuer,
    },
    received::OWNED_DATA,
    secret::{chain_digest, sha256},
};

/// An issuer that can issue, with what decisions need to know of it.
#[derive(Clone, Debug)]
pub struct LoadedIssuer {
    /// What decisions need to know of it.
    pub facts: IssuerFacts,
    /// What issues.
    pub issuer: Issuer,
    /// CA: when its Secret must be read again although it has not changed, because one of its certificates becomes valid or
    /// expires.
    pub reread_at: Option<Timestamp>,
    /// Atlas: when the credentials expire at the latest, if they expire.
    pub credentials_not_after: Option<Timestamp>,
}

/// Why an issuer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFault {
    /// The reason of its Ready condition.
    pub reason: Reason,
    /// What to change.
    pub message: String,
    /// For the log only: what the readers of the condition must not learn.
    pub detail: Option<String>,
    /// CA: when its certificate expired, if that is the fault. An expired CA is told of for as long as it is there.
    pub ca_not_after: Option<Timestamp>,
}

impl IssuerFault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: None, ca_not_after: None }
    }

    /// Logs the detail that the condition does not tell.
    pub(crate) fn log_detail(&self, namespace: &str, name: &str) {
        if let Some(detail) = &self.detail {
            info!(namespace, name, detail, "what is lent cannot be used");
        }
    }
}

type Loaded = Result<Arc<LoadedIssuer>, IssuerFault>;

/// All issuers that were loaded, or that could not be.
pub struct IssuerDirectory<K = IssuerKey>(RwLock<HashMap<K, Loaded>>);

impl<K> Default for IssuerDirectory<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash> IssuerDirectory<K> {
    /// The issuer, or why it cannot be used. `None` if it was not looked at yet.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Loaded> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Replaces what is known of the issuer. Returns whether that changes anything for its certificates.
    pub fn set(&self, key: K, loaded: Loaded) -> bool {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = match (issuers.get(&key), &loaded) {
            (Some(Ok(old)), Ok(new)) => old.facts != new.facts,
            (Some(Err(old)), Err(new)) => old != new,
            _ => true,
        };
        issuers.insert(key, loaded);
        changed
    }

    /// Forgets the issuer if it is not the one wanted, so that its certificates wait for the new one.
    pub fn forget_unless(&self, key: &K, is_this: impl FnOnce(&LoadedIssuer) -> bool) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if issuers.get(key).is_some_and(|loaded| loaded.as_ref().is_ok_and(|loaded| !is_this(loaded))) {
            issuers.remove(key);
        }
    }

    /// Forgets an issuer that is gone.
    pub fn remove(&self, key: &K) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

pub(crate) fn not_one_issuer() -> IssuerFault {
    IssuerFault::new(Reason::InvalidSpec, "name exactly one issuer in the spec: atlas or ca")
}

/// The name of the Secret that the spec itself names. A spec that names two issuers needs a Secret too: nobody may overwrite that.
#[must_use]
pub fn secret_of(spec: &IssuerSpec) -> Option<&str> {
    match (&spec.atlas, &spec.ca) {
        (Some(atlas), _) => atlas.credentials_secret_ref.as_ref().map(|secret| secret.name.as_str()),
        (None, Some(ca)) => Some(&ca.secret_name),
        (None, None) => None,
    }
}

/// Loads an issuer with its Secret.
///
/// # Errors
/// What to change in the spec or in the Secret.
pub fn load(
    key: &IssuerKey,
    spec: &IssuerSpec,
    version: String,
    project_id: Option<String>,
    secret: &Secret,
    access: &AtlasAccess,
    now: Timestamp,
) -> Result<LoadedIssuer, IssuerFault> {
    let source = spec.source().ok_or_else(not_one_issuer)?;
    let allow = match key.kind {
        IssuerKind::CertificateIssuer => Allow::of_namespaced_issuer(spec.allow.as_ref()),
        IssuerKind::ClusterCertificateIssuer => Allow::of_cluster_issuer(spec.allow.as_ref()),
    };
    let forbidden = match source {
        IssuerSource::Atlas(_) => &[][..],
        IssuerSource::Ca(ca) => &ca.forbidden_subjects,
    };
    let allow = allow
        .and_then(|allow| allow.with_forbidden(forbidden))
        .map_err(|error| IssuerFault::new(Reason::InvalidSpec, error.to_string()))?;
    match source {
        IssuerSource::Atlas(atlas) => {
            let source = AtlasSource {
                endpoint: endpoint_of(key.kind, atlas, access)?,
                project_id: project_id
                    .or_else(|| atlas.project_id.clone())
                    .ok_or_else(|| IssuerFault::new(Reason::InvalidSpec, "name a project: projectId or projectRef"))?,
                api_version: atlas.api_version,
                months_until_expiration: atlas.months_until_expiration,
                username: None,
            };
            load_atlas(source, allow, version, secret, &access.client)
        }
        IssuerSource::Ca(ca) => load_ca(ca, allow, version, secret, now),
    }
}

/// The endpoint of Atlas, and how it is reached.
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) allow_plain_http: bool,
    pub(crate) words: Words,
}

/// The endpoint of a spec.
///
/// | Kind | Written by | May name |
/// | --- | --- | --- |
/// | `CertificateIssuer` | a tenant | only endpoints that the administrator allows, plain HTTP among them |
/// | `ClusterCertificateIssuer` | the administrator | any endpoint |
///
/// # Errors
/// The endpoint is not a URL, or not allowed.
pub(crate) fn endpoint_of(kind: IssuerKind, spec: &AtlasIssuerSpec, access: &AtlasAccess) -> Result<Endpoint, IssuerFault> {
    let url: Url = spec
        .endpoint
        .parse()
        .map_err(|error| IssuerFault::new(Reason::InvalidSpec, format!("spec.atlas.endpoint: {error}")))?;
    let words = access.words_of(&url);
    match kind {
        IssuerKind::CertificateIssuer if (access.is_allowed)(&url) => Ok(Endpoint { url, allow_plain_http: true, words }),
        IssuerKind::CertificateIssuer => Err(IssuerFault::new(
            Reason::EndpointNotAllowed,
            "spec.atlas.endpoint is not among those that the administrator allows CertificateIssuers: correct it, or ask the administrator to add it to the chart's value atlas.allowedEndpoints (--allowed-atlas-endpoint) or to make a ClusterCertificateIssuer",
        )),
        IssuerKind::ClusterCertificateIssuer => {
            Ok(Endpoint { url, allow_plain_http: spec.allow_plain_http.unwrap_or_default(), words })
        }
    }
}

/// An issuer at Atlas without its credentials.
pub(crate) struct AtlasSource {
    pub(crate) endpoint: Endpoint,
    pub(crate) project_id: String,
    pub(crate) api_version: SpecApiVersion,
    pub(crate) months_until_expiration: u8,
    /// The only database user that it serves, if an `AtlasDatabaseUser` names it.
    pub(crate) username: Option<String>,
}

/// Loads an issuer at Atlas with the credentials in this Secret.
pub(crate) fn load_atlas(
    source: AtlasSource,
    allow: Allow,
    version: String,
    secret: &Secret,
    client: &AtlasClient,
) -> Result<LoadedIssuer, IssuerFault> {
    let data = data(secret);
    let credentials = AtlasCredentials::from_secret(|key| data.get(key).copied())
        .map_err(|error| IssuerFault::new(Reason::CredentialsInvalid, format!("the Secret {}: {error}", secret.name_any())))?;
    let settings = AtlasSettings {
        endpoint: source.endpoint.url,
        project_id: source.project_id,
        credentials_uid: secret.uid().unwrap_or_default(),
        api_version: match source.api_version {
            SpecApiVersion::V2 => AtlasApiVersion::V2,
            SpecApiVersion::V1 => AtlasApiVersion::V1,
        },
        allow_plain_http: source.endpoint.allow_plain_http,
        words: source.endpoint.words,
    };
    let credentials_not_after = annotated_expiry(secret)
        .or_else(|| credentials.longest_life().and_then(|life| data_written_at(secret)?.checked_add(life).ok()));
    let issuer = AtlasIssuer::new(client.clone(), settings, credentials);
    let facts = IssuerFacts {
        method: IssuingMethod::Mint { months_until_expiration: source.months_until_expiration },
        allow,
        username: source.username,
        identity: issuer.identity(),
        version,
    };
    Ok(LoadedIssuer { facts, issuer: Issuer::Atlas(Arc::new(issuer)), reread_at: None, credentials_not_after })
}

fn load_ca(
    spec: &CaIssuerSpec,
    allow: Allow,
    version: String,
    secret: &Secret,
    now: Timestamp,
) -> Result<LoadedIssuer, IssuerFault> {
    let invalid = |error: crate::decide::InvalidSpec| IssuerFault::new(Reason::InvalidSpec, error.0);
    let parse = |field, text: &Option<String>| text.as_deref().map(|text| parse_duration(field, text)).transpose();
    let data = data(secret);
    let ca = CaIssuer::from_secret(data.get(TLS_CERTIFICATE).copied(), data.get(TLS_PRIVATE_KEY).copied(), now).map_err(
        |error| IssuerFault {
            ca_not_after: error.expired_at(),
            ..IssuerFault::new(error.reason(), format!("the Secret {}: {error}", secret.name_any()))
        },
    )?;
    let facts = IssuerFacts {
        method: IssuingMethod::Sign(CaFacts {
            duration: parse("spec.ca.duration", &spec.duration).map_err(invalid)?,
            max_duration: parse("spec.ca.maxDuration", &spec.max_duration).map_err(invalid)?,
            not_after: ca.not_after(),
            ca_digest: sha256(&ca.ca_certificate_pem()),
            chain_digest: chain_digest(ca.intermediates(), ca.ca_certificate_pem().as_bytes()),
            name_constraints: ca.name_constraints().clone(),
        }),
        allow,
        username: None,
        identity: IssuerIdentity::of_ca(ca.key_id()),
        version,
    };
    Ok(LoadedIssuer { facts, reread_at: ca.next_change(), issuer: Issuer::Ca(Arc::new(ca)), credentials_not_after: None })
}

/// When whoever owns data of the Secret has written it last, as its managed fields tell: no data in it is newer. Those who own labels and
/// annotations alone do not count. Without such an entry nobody knows: a Secret may be years older than what is in it.
/// A time that could not be read came as the latest that there is, and does not count.
///
/// An entry has one time for all of its fields, so who writes data and an annotation together moves the time for the data too.
fn data_written_at(secret: &Secret) -> Option<Timestamp> {
    let entries = secret.metadata.managed_fields.iter().flatten();
    let of_data = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| OWNED_DATA.iter().any(|name| fields.get(name).is_some()))
    });
    of_data.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).filter(|time| *time < Timestamp::MAX).max()
}

/// When the credentials expire, if somebody has noted it at the Secret. What is no time of RFC 3339 counts as nothing noted. That is logged once,
/// because an issuer is loaded once as long as neither its spec nor its Secret changes.
fn annotated_expiry(secret: &Secret) -> Option<Timestamp> {
    let noted = secret.metadata.annotations.as_ref()?.get(CREDENTIALS_NOT_AFTER_ANNOTATION)?;
    let parsed: Result<Timestamp, _> = noted.parse();
    if parsed.is_err() {
        let (namespace, name) = (secret.namespace(), secret.name_any());
        warn!(
            namespace,
            name, "the annotation {CREDENTIALS_NOT_AFTER_ANNOTATION} is no time: write it as 2027-01-31T00:00:00Z"
        );
    }
    parsed.ok()
}

fn data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CREATED: &str = "2026-01-01T00:00:00Z";

    fn secret(managed_fields: &Value, annotations: &Value) -> Secret {
        let metadata = json!({ "name": "atlas-api-key", "creationTimestamp": CREATED, "managedFields": managed_fields, "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn entry(time: &str, fields: &Value) -> Value {
        json!({ "manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "time": time, "fieldsV1": fields })
    }

    #[test]
    fn data_is_as_old_as_its_owners_wrote_it_last_whoever_writes_labels_and_annotations() {
        let (first, rotated, labelled) = ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-12-01T00:00:00Z");
        let data = json!({ "f:data": { "f:clientSecret": {} } });
        let labels = json!({ "f:metadata": { "f:labels": { "f:team": {} } } });
        let written = |entries: Value| data_written_at(&secret(&entries, &json!({}))).map(|time| time.to_string());
        assert_eq!(written(json!([entry(first, &data), entry(labelled, &labels)])).as_deref(), Some(first));
        assert_eq!(
            written(json!([entry(first, &data), entry(rotated, &data), entry(labelled, &labels)])).as_deref(),
            Some(rotated)
        );
        assert_eq!(written(json!([entry(labelled, &labels)])), None, "nobody owns the data any more");
        let unreadable = Timestamp::MAX.to_string();
        assert_eq!(written(json!([entry(first, &data), entry(&unreadable, &data)])).as_deref(), Some(first));
        assert_eq!(written(json!([entry(&unreadable, &data)])), None);
        assert_eq!(written(json!([])), None, "the Secret may be older than its data");
    }

    #[test]
    fn the_end_that_is_noted_at_a_secret_counts_and_what_is_no_time_does_not() {
        let noted = |value: &str| annotated_expiry(&secret(&json!([]), &json!({ CREDENTIALS_NOT_AFTER_ANNOTATION: value })));
        assert_eq!(noted("2026-06-01T00:00:00Z").unwrap().to_string(), "2026-06-01T00:00:00Z");
        assert_eq!(noted("next June"), None);
        assert_eq!(annotated_expiry(&secret(&json!([]), &json!({}))), None);
    }
}
