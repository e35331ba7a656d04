//! Issuers and their Secrets.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use usercert_operator::{
    api::{IssuerKey, IssuerKind, IssuerSpec},
    certificate::Subject,
    controller::{Received, load},
    issuer::{
        Issuer,
        atlas::{AtlasAccess, AtlasApiVersion, AtlasSettings, Words},
    },
};

use crate::{Outcome, atlas::client, ca::request, now, oracle::assert_keeps_secret_beside};

/// Every endpoint is allowed, so that nothing is kept from being read.
static ACCESS: LazyLock<AtlasAccess> = LazyLock::new(|| AtlasAccess {
    client: client(),
    is_allowed: Arc::new(|_| true),
    endpoint: "https://cloud.mongodb.com".parse().expect("a URL"),
});

#[derive(Deserialize)]
struct Case {
    kind: IssuerKind,
    spec: IssuerSpec,
    secret: Received<Secret>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    username: String,
}

/// An issuer's `kind` and `spec` with its `secret`, and a `username` whose namespace has `labels`, as JSON.
pub fn issuer(data: &[u8]) -> Outcome {
    let Ok(case) = serde_json::from_slice::<Case>(data) else { return Outcome::Unread };
    assert_urls_stay(&case);
    let key = IssuerKey { kind: case.kind, namespace: "shop".to_owned(), name: "issuer".to_owned() };
    let loaded = load(&key, &case.spec, "1".to_owned(), None, &case.secret, &ACCESS, now());
    let said = format!("{loaded:?}");
    let is_secret = |key: &str| matches!(key, "privateApiKey" | "clientSecret" | "tls.key");
    for (_, value) in case.secret.data.iter().flatten().filter(|(key, _)| is_secret(key)) {
        // A fuzzer that has seen the value in a comparison writes it where it is shown.
        assert_keeps_secret_beside(&said, &value.0, &String::from_utf8_lossy(data));
    }
    let Ok(loaded) = loaded else { return Outcome::Read };
    let _ = loaded.facts.allow.check_namespace("shop", &case.labels);
    if let Ok(subject) = Subject::for_user(&case.username) {
        let _ = loaded.facts.allow.check_subject("shop", &case.username, &subject);
    }
    if let Issuer::Ca(ca) = &loaded.issuer {
        ca.issue(&request()).expect("a CA that was tried out signs");
    }
    Outcome::Read
}

/// No user name leads to another host, or to another place there.
fn assert_urls_stay(case: &Case) {
    let Some(atlas) = &case.spec.atlas else { return };
    let Ok(endpoint) = atlas.endpoint.parse() else { return };
    let settings = AtlasSettings {
        endpoint,
        project_id: "5efda6aea3f2ed2e7dd6ce05".to_owned(),
        credentials_uid: "uid-1".to_owned(),
        api_version: AtlasApiVersion::V2,
        allow_plain_http: atlas.allow_plain_http.unwrap_or_default(),
        words: Words::Quoted,
    };
    let below = ["api", "atlas", "v2", "groups", "5efda6aea3f2ed2e7dd6ce05", "databaseUsers"];
    for url in [settings.certificates_url(&case.username), settings.user_url(&case.username)].into_iter().flatten() {
        assert_eq!(url.origin().ascii_serialization(), settings.endpoint.origin().ascii_serialization());
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        assert!(segments.starts_with(&below) && segments.len() == below.len() + 2, "{url}");
        assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    }
}
