//! What a maintainer needs stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;

#[rstest]
#[case::text(
    "2026-11-26T21:37:29.123456Z  WARN pass{kind=\"DatabaseUserCertificate\" object=shop/orders-token decision=\"Issue\" reason=\"RenewalDue\"}: usercert_operator_controller::pass::report: no certificate was issued reason=\"AtlasUnauthorized\" message=\"Atlas answered 401: check publicApiKey and privateApiKey in the credentials Secret, and that the API key has the role Project Owner\""
)]
#[case::json(r#"{"timestamp":"2026-11-26T21:37:29.123456Z","level":"WARN","fields":{"message":"a pass failed and is repeated","failures":3,"error":"could not read the Secret: ApiError: secrets \"orders-token\" is forbidden: User \"system:serviceaccount:usercert-system:usercert-operator\" cannot get resource \"secrets\" in API group \"\" in the namespace \"shop\": Forbidden"},"target":"usercert_operator_controller::failures","span":{"kind":"DatabaseUserCertificate","object":"shop/orders-token","name":"pass"},"spans":[{"kind":"DatabaseUserCertificate","object":"shop/orders-token","name":"pass"}]}"#)]
#[case::the_name_of_a_secret(
    "the Secret shop/atlas-api-key: it holds neither an API key (publicApiKey, privateApiKey) nor a service account (clientId, clientSecret)"
)]
#[case::a_secret_that_is_missing(
    "the Secret atlas-credentials in namespace shop does not exist; the Secret atlas-credentials: the key clientSecret is missing or empty"
)]
#[case::a_key_of_a_secret("the Secret keystore-password has no key password: add it, or correct passwordSecretRef")]
#[case::a_password("the Secret keystore-password cannot be used: the password in its key password is empty")]
#[case::a_refused_token(
    "the token endpoint refuses the service account: its client secret has expired or does not belong to its client id; make a new secret and put both into the credentials Secret"
)]
#[case::an_issuer("ClusterCertificateIssuer atlas-token: AtlasClientSecretRefused")]
#[case::names_that_begin_like_a_token(
    "ClusterCertificateIssuer/global-atlas-prod global-ca-issuer prod-global-database gloo-system-proxy glass-orders-db xapp-backend01"
)]
#[case::a_workload("Deployment api-token: 1 of 3 pods has the certificate 0A1B2C")]
#[case::an_event(
    "secret \"orders-token\" not found; MountVolume.SetUp failed for volume \"tls\" : secret \"orders-token\" not found"
)]
#[case::a_request(
    "error sending request for url (https://10.96.0.1:443/api/v1/namespaces/shop/secrets/orders-token?fieldManager=usercert-operator): connection refused"
)]
#[case::a_path("GET /api/atlas/v2/groups/507f1f77bcf86cd799439011/databaseUsers/ORDERS-SERVICE-PROD/certs: 404")]
#[case::a_leader("usercert-operator-7d9f8b6c5d-x2x4z_3f2b1c00-8a51-4c8e-9d5b-0f6f3b1f5a77 leads")]
#[case::digests(
    "serial 3A0F00112233445566778899AABBCCDDEEFF0011, uid 3f2b1c00-8a51-4c8e-9d5b-0f6f3b1f5a77, sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)]
#[case::public_keys(
    "public key ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpw, SHA1 Fingerprint=9A:BC:DE, -----BEGIN PUBLIC KEY-----\\nMIIBpw==\\n-----END PUBLIC KEY-----\\n"
)]
#[case::subjects("CN=orders,OU=apps,O=Acme for user orders@example.com until 2027-01-01T00:00:00Z")]
#[case::reasons("AtlasClientSecretRefused\nAtlasUserNotFound\nKeystorePasswordUnusable\nCredentialsNotFound: 3\n")]
#[case::a_secret_in_a_manifest("secretName: orders-tls, passwordSecretRef: {name: keystore-password}")]
fn ordinary_lines_stay(#[case] text: &str) {
    assert_eq!(redacted(text), text);
}

#[test]
fn the_page_of_reasons_stays() {
    for line in include_str!("../../../../../docs/reasons.md").lines() {
        assert_eq!(redacted(line), line);
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|name| name == "tests");
    found.filter(|path| !is_test(path)).flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// A message that names a secret and has a colon behind the name would lose its end: word it otherwise, or add it to `NO_NAMES`.
#[test]
fn messages_of_the_operator_stay() {
    let texts = Regex::new(r#""((?:[^"\\]|\\.){12,})""#).unwrap();
    let values = Regex::new(r"\{[^{}]*\}").unwrap();
    let mut count = 0;
    for part in ["core", "controller", "issuer", "runtime", "operator"] {
        for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(part)) {
            let source = fs::read_to_string(&file).unwrap_or_default();
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for text in texts.captures_iter(line) {
                    let message = values.replace_all(&text[1], "orders").replace("\\\"", "\"");
                    assert_eq!(redacted(&message), message, "{}", file.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 800, "there are messages: {count}");
}
