//! Cases of public bug reports about chains, and others of their kinds: what OpenSSL, with which databases verify, says of a CA, and what
//! this operator makes of it. `make cases` prints the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod authority;
mod list;
mod random;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use usercert_operator::{
    api::DatabaseUserCertificate,
    certificate::{NameConstraints, PrivateKeySpec, Subject},
    decide::{Allow, CaFacts, Desired, IssuerFacts, IssuingMethod},
    issuer::{
        Issued,
        ca::{CaIssuer, SignRequest},
    },
};

use crate::{
    authority::Authority,
    list::{Case, Expected, cases},
};

/// Longer sentences are read by nobody.
const LONGEST_SENTENCE: usize = 300;

fn request(subject: &str) -> SignRequest {
    SignRequest {
        subject: Subject::parse(subject).unwrap(),
        duration: SignedDuration::from_hours(2),
        private_key: PrivateKeySpec::default(),
        now: Timestamp::now(),
    }
}

/// Loads the CA and has it sign.
fn issue(file: &str, key: &str, subject: &str) -> Result<Issued, String> {
    let ca = CaIssuer::from_secret(Some(file.as_bytes()), Some(key.as_bytes()), Timestamp::now());
    let ca = ca.map_err(|error| error.to_string())?;
    ca.issue(&request(subject)).map_err(|error| error.message)
}

/// A refusal is for people: one sentence, and nothing of Rust or of what is encoded.
fn assert_is_sentence(refusal: &str) {
    assert!(refusal.chars().count() <= LONGEST_SENTENCE && !refusal.contains('\n'), "{refusal}");
    for mark in ["Error", "SerialNumber", "{ ", "Some(", "[4", "Tag", "0x", "-----"] {
        assert!(!refusal.contains(mark), "{refusal}");
    }
}

fn judge(authority: &Authority, case: &Case) -> String {
    let (certificate, key) = case.ca;
    match (issue(&case.file, &authority.key(key, authority::P256), case.subject.0), case.expected) {
        (Ok(issued), Expected::Issued) => {
            let got = issued.pair.certificates_pem();
            let verified = authority.verifies(&got, &case.root);
            assert_eq!(verified, Ok(()), "{}: what is handed on does not verify", case.name);
            assert!(!got.contains(&case.root), "{}: the root is handed on", case.name);
            format!("issued, and OpenSSL verifies the {} certificates handed on", issued.pair.certificates().len())
        }
        (Err(refusal), Expected::Refused(words)) => {
            assert!(refusal.contains(words), "{}: {refusal}", case.name);
            assert_is_sentence(&refusal);
            format!("refused: {refusal}")
        }
        (Ok(_), Expected::Refused(words)) => panic!("{}: issued, and not refused ({words}) by {certificate}", case.name),
        (Err(refusal), Expected::Issued) => panic!("{}: refused: {refusal}", case.name),
    }
}

#[test]
fn each_case_is_issued_and_verified_or_refused_in_a_sentence() {
    let authority = Authority::new();
    println!("| Case | OpenSSL, of its own certificate below this CA | This operator |\n| --- | --- | --- |");
    for case in cases(&authority) {
        let (certificate, key) = case.ca;
        let opinion = authority.opinion(certificate, key, case.subject.1, &case.file, &case.root);
        let opinion = opinion.map_or_else(|why| format!("refuses: {why}"), |()| "accepts".to_owned());
        println!("| {} | {opinion} | {} |", case.name, judge(&authority, &case));
    }
}

/// What becomes of a user name without a subject.
fn subject_of(username: &str) -> Result<Subject, String> {
    let object: DatabaseUserCertificate = serde_json::from_value(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "reports" },
        "spec": { "username": username, "issuerRef": { "name": "ca" } },
    }))
    .unwrap();
    let facts = IssuerFacts {
        method: IssuingMethod::Sign(CaFacts {
            duration: None,
            max_duration: None,
            not_after: Timestamp::MAX,
            ca_digest: String::new(),
            chain_digest: String::new(),
            name_constraints: NameConstraints::default(),
        }),
        allow: Allow::default(),
        username: None,
        identity: "ca/1".into(),
        version: "1".to_owned(),
    };
    Desired::new(&object, &facts).map(|desired| desired.subject).map_err(|invalid| invalid.0)
}

#[test]
fn a_user_name_becomes_the_subject_that_is_meant_or_is_refused() {
    println!("| User name | Subject |\n| --- | --- |");
    for (username, expected) in [
        ("reports", Some("CN=reports")),
        ("CN=reports,OU=apps,O=Acme", Some("CN=reports,OU=apps,O=Acme")),
        ("C=US,ST=California,O=Acme Inc.,CN=reports", None),
        ("OU=apps,CN=reports", None),
        ("CN = reports, O = Acme", None),
        ("/O=Acme/CN=reports", None),
        ("C=US/O=Acme/CN=reports", None),
        ("O=Acme/Sales", Some("CN=O=Acme/Sales")),
        ("O=Acme", Some("CN=O=Acme")),
    ] {
        let said = subject_of(username);
        assert_eq!(said.as_ref().ok().map(ToString::to_string).as_deref(), expected);
        let said = said.map_or_else(|refusal| format!("refused: {refusal}"), |subject| subject.to_string());
        assert_is_sentence(&said);
        println!("| {username} | {said} |");
    }
}

#[test]
fn a_chain_that_was_completed_is_handed_on_without_a_new_certificate() {
    let authority = Authority::new();
    let root = authority.ca("root", "root", "/CN=Root", None, &[]);
    let middle = authority.ca("middle", "middle", "/CN=Middle", Some(("root", "root")), &[]);
    let issuing = authority.ca("issuing", "issuing", "/CN=Issuing", Some(("middle", "middle")), &[]);
    let key = authority.key("issuing", authority::P256);
    let load = |file: &str| CaIssuer::from_secret(Some(file.as_bytes()), Some(key.as_bytes()), Timestamp::now()).unwrap();
    let first = load(&issuing).issue(&request("CN=reports")).unwrap();
    assert!(authority.verifies(&first.pair.certificates_pem(), &root).is_err(), "the middle is not known yet");
    let completed = load(&format!("{issuing}{middle}{root}"));
    let rebuilt = completed.rebuilt(&first.pair).unwrap();
    assert_eq!(authority.verifies(&rebuilt.certificates_pem(), &root), Ok(()));
    assert_eq!(rebuilt.facts(), first.pair.facts());

    let other = authority.ca("other", "other", "/CN=Other", None, &[]);
    let moved = authority.ca("moved", "issuing", "/CN=Issuing", Some(("other", "other")), &[]);
    let rebuilt = load(&format!("{moved}{other}")).rebuilt(&rebuilt).unwrap();
    assert_eq!(authority.verifies(&rebuilt.certificates_pem(), &other), Ok(()));

    let stranger = authority.ca("stranger", "stranger", "/CN=Issuing", None, &[]);
    let key = authority.key("stranger", authority::P256);
    let stranger = CaIssuer::from_secret(Some(stranger.as_bytes()), Some(key.as_bytes()), Timestamp::now()).unwrap();
    assert_is_sentence(&stranger.rebuilt(&rebuilt).unwrap_err().message);
}
