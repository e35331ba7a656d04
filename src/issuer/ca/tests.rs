//! Statements about the CA. OpenSSL makes the CAs and verifies what they sign.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod chain;
mod name_constraints;

use der::{Decode, Encode};
use rstest::rstest;

use super::*;
use usercert_test_support::openssl::{openssl, tempfile};

use crate::certificate::Subject;

struct Files(std::path::PathBuf);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A self-signed CA in `ca.crt` and `ca.key`.
fn make_ca(key: &[&str], extra: &[&str]) -> Files {
    let files = Files(tempfile());
    std::fs::write(files.path("ca.key"), openssl(key, "")).unwrap();
    let (key, out) = (files.path("ca.key"), files.path("ca.crt"));
    let subject = "/DC=com/DC=example/O=Acme+OU=db/CN=users CA";
    let mut arguments = vec!["req", "-x509", "-multivalue-rdn", "-key", &key, "-out", &out, "-subj", subject];
    arguments.extend(if extra.is_empty() {
        &["-days", "30", "-addext", "keyUsage=critical,keyCertSign,cRLSign"][..]
    } else {
        extra
    });
    openssl(&arguments, "");
    files
}

fn load(files: &Files) -> Result<CaIssuer, CaError> {
    CaIssuer::from_secret(Some(&files.read("ca.crt")), Some(&files.read("ca.key")), Timestamp::now())
}

fn request(spec: PrivateKeySpec) -> SignRequest {
    SignRequest {
        subject: Subject::parse("CN=orders,OU=apps,OU=eu,O=Acme").unwrap(),
        duration: SignedDuration::from_hours(2160),
        private_key: spec,
        now: Timestamp::now(),
    }
}

#[rstest]
#[case::rsa(&["genrsa", "2048"], "ECDSA 256")]
#[case::rsa_pkcs1(&["genrsa", "-traditional", "3072"], "RSA 2048")]
#[case::p256(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "ECDSA 384")]
#[case::p384(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "ECDSA 256")]
#[case::ed25519(&["genpkey", "-algorithm", "ed25519"], "Ed25519")]
fn openssl_verifies_what_each_kind_of_ca_signs(#[case] key: &[&str], #[case] leaf_key: &str) {
    let files = make_ca(key, &[]);
    let ca = load(&files).unwrap();
    let issued = ca.issue(&request(leaf_key.parse().unwrap())).unwrap();
    let leaf = issued.pair.certificates_pem();
    std::fs::write(files.path("leaf.crt"), &leaf).unwrap();
    std::fs::write(files.path("from-secret.crt"), issued.ca_certificate.unwrap()).unwrap();
    openssl(
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            &files.path("from-secret.crt"),
            &files.path("leaf.crt"),
        ],
        "",
    );
    let text = openssl(&["x509", "-noout", "-text", "-nameopt", "RFC2253"], &leaf);
    for line in [
        "Subject: CN=orders,OU=apps,OU=eu,O=Acme",
        "CA:FALSE",
        "TLS Web Client Authentication\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
    assert!(!text.contains("1.3.6.1.4.1.34601"), "MongoDB's extensions give roles");
    let issuer = openssl(&["x509", "-noout", "-issuer_hash"], &leaf);
    assert_eq!(issuer, openssl(&["x509", "-noout", "-subject_hash"], &String::from_utf8(files.read("ca.crt")).unwrap()));
    assert_eq!(issued.pair.facts().private_key.to_string(), leaf_key);
}

#[test]
fn names_are_encoded_as_openssl_encodes_them() {
    let files = make_ca(&["genrsa", "2048"], &[]);
    let issued = load(&files).unwrap().issue(&request(PrivateKeySpec::default())).unwrap();
    let types = openssl(&["asn1parse"], &issued.pair.certificates_pem());
    let der_of = |certificate: &[u8]| Certificate::from_der(certificate).unwrap();
    let leaf = der_of(&issued.pair.certificates()[0]);
    let ca = read_certificates(&files.read("ca.crt")).unwrap();
    assert_eq!(
        leaf.tbs_certificate().issuer().to_der().unwrap(),
        der_of(&ca[0]).tbs_certificate().subject().to_der().unwrap(),
        "the issuer is the CA's subject byte for byte"
    );
    assert!(types.contains("IA5STRING         :com") && types.contains("UTF8STRING        :orders"), "{types}");
}

#[test]
fn a_leaf_is_backdated_has_a_random_serial_and_does_not_outlive_its_ca() {
    let files = make_ca(&["genrsa", "2048"], &[]);
    // The CA was made in this second, so it limits the backdating too.
    let ca = load(&files).unwrap();
    let now = Timestamp::now() + SignedDuration::from_mins(10);
    let first = ca.issue(&SignRequest { now, ..request(PrivateKeySpec::default()) }).unwrap().pair;
    let second = ca.issue(&SignRequest { now, ..request(PrivateKeySpec::default()) }).unwrap().pair;
    assert_eq!(first.facts().not_before.as_second(), (now - SignedDuration::from_mins(5)).as_second());
    assert_eq!(first.facts().not_after, ca.not_after());
    assert_ne!(first.facts().serial_number, second.facts().serial_number);
    assert_eq!(first.facts().serial_number.as_str().len(), 32, "sixteen bytes");
    let short = SignRequest { now, duration: SignedDuration::from_hours(1), ..request(PrivateKeySpec::default()) };
    let not_after = ca.issue(&short).unwrap().pair.facts().not_after;
    assert_eq!(not_after.as_second(), (now + SignedDuration::from_hours(1)).as_second());
}

#[test]
fn a_chain_is_handed_on_without_its_root() {
    let files = make_ca(&["genrsa", "2048"], &[]);
    std::fs::write(files.path("sub.key"), openssl(&["genrsa", "2048"], "")).unwrap();
    std::fs::write(files.path("sub.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n").unwrap();
    let request_pem = openssl(&["req", "-new", "-key", &files.path("sub.key"), "-subj", "/O=Acme/CN=sub"], "");
    let sub = openssl(
        &[
            "x509",
            "-req",
            "-days",
            "10",
            "-CA",
            &files.path("ca.crt"),
            "-CAkey",
            &files.path("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &files.path("sub.ext"),
        ],
        &request_pem,
    );
    let root = String::from_utf8(files.read("ca.crt")).unwrap();
    let load = |certificates: &str| {
        CaIssuer::from_secret(Some(certificates.as_bytes()), Some(&files.read("sub.key")), Timestamp::now())
    };

    let issued = load(&format!("{sub}{root}")).unwrap().issue(&request(PrivateKeySpec::default())).unwrap();
    assert_eq!(issued.pair.certificates().len(), 2, "the leaf and the intermediate");
    assert_eq!(issued.ca_certificate.unwrap(), root);
    std::fs::write(files.path("chain.crt"), issued.pair.certificates_pem()).unwrap();
    let chain = files.path("chain.crt");
    openssl(&["verify", "-purpose", "sslclient", "-CAfile", &files.path("ca.crt"), "-untrusted", &chain, &chain], "");

    let alone = load(&sub).unwrap().issue(&request(PrivateKeySpec::default())).unwrap();
    assert_eq!(alone.pair.certificates().len(), 2);
    assert_eq!(alone.ca_certificate.unwrap(), sub, "the topmost that is known");
    let unrelated = make_ca(&["genrsa", "2048"], &["-days", "3", "-set_serial", "7"]);
    let other_root = String::from_utf8(unrelated.read("ca.crt")).unwrap();
    assert!(matches!(load(&format!("{sub}{other_root}")), Err(CaError::Unconnected { .. })), "same name, other key");
    let twice = load(&format!("{sub}{root}{sub}{root}")).unwrap().issue(&request(PrivateKeySpec::default())).unwrap();
    assert_eq!(twice.pair.certificates().len(), 2, "each once");
    assert_eq!(twice.ca_certificate.unwrap(), root);
}

#[test]
fn what_cannot_sign_is_refused_with_a_reason() {
    let files = make_ca(&["genrsa", "2048"], &[]);
    let (certificate, key) = (files.read("ca.crt"), files.read("ca.key"));
    let now = Timestamp::now();
    let load = |certificate: Option<&[u8]>, key: Option<&[u8]>, now| {
        CaIssuer::from_secret(certificate, key, now).map(|_| ()).unwrap_err()
    };
    assert_eq!(load(None, Some(&key), now), CaError::Missing("tls.crt"));
    assert_eq!(load(Some(&certificate), Some(b""), now), CaError::Missing("tls.key"));
    let long = [certificate.as_slice(), &vec![b'\n'; 32 * 1024]].concat();
    assert_eq!(load(Some(&long), Some(&key), now), CaError::TooLong("tls.crt"));
    let long = [key.as_slice(), &vec![b'\n'; 32 * 1024]].concat();
    assert_eq!(load(Some(&certificate), Some(&long), now), CaError::TooLong("tls.key"));
    assert_eq!(load(Some(b"garbage"), Some(&key), now), CaError::Certificate(PairError::NoCertificate));
    assert_eq!(load(Some(&certificate), Some(b"garbage"), now), CaError::Key(KeyError::Missing));
    assert_eq!(load(Some(&certificate), Some(&make_ca(&["genrsa", "2048"], &[]).read("ca.key")), now), CaError::KeyMismatch);
    let later = load(Some(&certificate), Some(&key), now + SignedDuration::from_hours(31 * 24));
    assert!(matches!(later, CaError::Expired { .. }) && later.reason() == Reason::CaNotInDate);
    let earlier = load(Some(&certificate), Some(&key), now - SignedDuration::from_hours(1));
    assert!(matches!(earlier, CaError::NotYetValid { .. }) && earlier.reason() == Reason::CaNotInDate);
}

#[rstest]
#[case::leaf(&["-days", "3", "-addext", "basicConstraints=critical,CA:FALSE"])]
#[case::no_key_cert_sign(&["-days", "3", "-addext", "keyUsage=critical,digitalSignature"])]
fn a_certificate_that_may_not_sign_is_no_ca(#[case] extra: &[&str]) {
    assert!(matches!(load(&make_ca(&["genrsa", "2048"], extra)), Err(CaError::NotCa(_))));
}

#[rstest]
#[case("serverAuth")]
#[case("anyExtendedKeyUsage")]
fn a_ca_that_is_limited_to_other_uses_is_refused_as_openssl_would(#[case] usage: &str) {
    let usage = format!("extendedKeyUsage={usage}");
    let error = load(&make_ca(&["genrsa", "2048"], &["-days", "3", "-addext", &usage])).map(|_| ()).unwrap_err();
    assert!(matches!(error, CaError::NotForClients(_)) && error.reason() == Reason::CaInvalid, "{error}");
    let clients = make_ca(&["genrsa", "2048"], &["-days", "3", "-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
    assert!(load(&clients).is_ok());
}

#[test]
fn a_root_that_allows_no_ca_below_it_is_refused_above_one() {
    let sub_key = openssl(&["genrsa", "2048"], "");
    let chain_below = |path_length: &str| {
        let constraints = format!("basicConstraints=critical,CA:TRUE,pathlen:{path_length}");
        let root = make_ca(&["genrsa", "2048"], &["-days", "3", "-addext", &constraints]);
        std::fs::write(root.path("sub.key"), &sub_key).unwrap();
        std::fs::write(root.path("sub.ext"), "basicConstraints=critical,CA:TRUE,pathlen:0\n").unwrap();
        let (key, certificate, extensions) = (root.path("ca.key"), root.path("ca.crt"), root.path("sub.ext"));
        let request = openssl(&["req", "-new", "-key", &root.path("sub.key"), "-subj", "/CN=sub"], "");
        let sub = openssl(
            &["x509", "-req", "-CA", &certificate, "-CAkey", &key, "-set_serial", "9", "-extfile", &extensions],
            &request,
        );
        sub + &String::from_utf8(root.read("ca.crt")).unwrap()
    };
    let load = |chain: &str| CaIssuer::from_secret(Some(chain.as_bytes()), Some(sub_key.as_bytes()), Timestamp::now());
    assert!(matches!(load(&chain_below("0")), Err(CaError::PathLength(_))));
    assert!(load(&chain_below("1")).is_ok());
}

#[test]
fn a_duration_beyond_the_end_of_time_gives_what_the_ca_has() {
    let ca = load(&make_ca(&["genrsa", "2048"], &[])).unwrap();
    let endless = SignRequest { duration: SignedDuration::from_hours(99_999_999_999), ..request(PrivateKeySpec::default()) };
    assert_eq!(ca.issue(&endless).unwrap().pair.facts().not_after, ca.not_after());
}

#[test]
fn debug_shows_no_key() {
    let debug = format!("{:?}", load(&make_ca(&["genrsa", "2048"], &[])).unwrap());
    assert!(debug.starts_with("CaIssuer { key_id: ") && !debug.contains("key:"), "{debug}");
}
