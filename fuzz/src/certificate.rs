//! Certificates and keys in PEM.

use der::{Decode, Encode};
use secrecy::ExposeSecret;
use usercert_operator::certificate::{CertificatePair, KeyAlgorithm, PairError, PrivateKey, PrivateKeySpec, Subject};
use webpki::{EndEntityCert, aws_lc_rs as algorithms};

use crate::{
    Outcome, now,
    oracle::{assert_keeps_secret, assert_keeps_secret_beside, assert_readable},
    two_texts,
};

/// A certificate and its key: in one text, or in two with a NUL between them.
pub fn certificate_pair(data: &[u8]) -> Outcome {
    let (certificates, key) = two_texts(data);
    let parsed = CertificatePair::parse(certificates, key);
    match parsed {
        Ok(pair) => assert_is_pair(&pair, data),
        Err(error) => {
            assert_readable(&error.to_string());
            assert_keeps_secret(&format!("{error} {error:?}"), data);
        }
    }
    Outcome::Read
}

/// One private key.
pub fn private_key(data: &[u8]) -> Outcome {
    let key = match PrivateKey::from_pem(data) {
        Ok(key) => key,
        Err(error) => {
            assert_keeps_secret(&format!("{error} {error:?}"), data);
            return Outcome::Read;
        }
    };
    assert_eq!(format!("{key:?}"), "PrivateKey([redacted])");
    let again = PrivateKey::from_pem(key.to_pkcs8_pem().expose_secret().as_bytes()).expect("what was written is read");
    assert_eq!(again.to_pkcs8_pem().expose_secret(), key.to_pkcs8_pem().expose_secret());
    assert_eq!(again.public_key_info(), key.public_key_info());
    if let Ok(spec) = key.spec() {
        assert_eq!(spec.to_string().parse::<PrivateKeySpec>(), Ok(spec));
    }
    Outcome::Read
}

/// What holds of every pair that was accepted.
pub fn assert_is_pair(pair: &CertificatePair, input: &[u8]) {
    let facts = pair.facts();
    let key = pair.key_pem();
    let names = format!("{} {}", facts.subject, facts.issuer);
    assert_keeps_secret_beside(&format!("{pair:?}"), key.expose_secret().as_bytes(), &names);
    let parts = CertificatePair::parse(pair.certificates_pem().as_bytes(), key.expose_secret().as_bytes());
    let combined = CertificatePair::parse_combined(pair.combined_pem().expose_secret().as_bytes());
    for again in [parts, combined] {
        let again = again.expect("what was written is read");
        assert_eq!(again.facts(), facts);
        assert_eq!(again.certificates(), pair.certificates());
    }
    if let Ok(subject) = Subject::parse(&facts.subject.to_string()) {
        assert_eq!(subject, facts.subject, "the name in the status means the same");
    }
    let other = Subject::common_name("nobody").expect("a name");
    for error in [pair.verify(&facts.subject, now()), pair.verify(&other, now())].into_iter().filter_map(Result::err) {
        // The names may be those of the input.
        if !matches!(error, PairError::OtherSubject { .. }) {
            assert_readable(&error.to_string());
            assert_keeps_secret(&error.to_string(), input);
        }
    }
    assert_key_signs_for(pair);
}

/// A second opinion on whether the key fits: what it signs, the certificate verifies.
fn assert_key_signs_for(pair: &CertificatePair) {
    const MESSAGE: &[u8] = b"signed by the key, verified by the certificate";
    let leaf = pair.certificates().first().expect("a pair has a certificate");
    let parsed = x509(leaf);
    let key = PrivateKey::from_pem(pair.key_pem().expose_secret().as_bytes()).expect("a pair has a key");
    assert_eq!(key.public_key_info().ok(), Some(parsed), "the public keys");
    let spec = pair.facts().private_key;
    let algorithm = match (spec.algorithm, spec.size) {
        (KeyAlgorithm::Rsa, _) => algorithms::RSA_PKCS1_2048_8192_SHA256,
        (KeyAlgorithm::Ecdsa, 256) => algorithms::ECDSA_P256_SHA256,
        (KeyAlgorithm::Ecdsa, 384) => algorithms::ECDSA_P384_SHA384,
        (KeyAlgorithm::Ecdsa, _) => algorithms::ECDSA_P521_SHA512,
        (KeyAlgorithm::Ed25519, _) => algorithms::ED25519,
    };
    // What webpki does not read, such as version 1, it cannot verify with.
    let Ok(certificate) = EndEntityCert::try_from(leaf) else { return };
    let signature = key.sign(MESSAGE).expect("a key of a pair signs");
    certificate.verify_signature(algorithm, MESSAGE, &signature).expect("the key fits the certificate");
}

fn x509(certificate: &[u8]) -> Vec<u8> {
    let certificate = x509_cert::Certificate::from_der(certificate).expect("a pair has a certificate that is read");
    certificate.tbs_certificate().subject_public_key_info().to_der().expect("what was read is written")
}
