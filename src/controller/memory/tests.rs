//! Statements about what a process remembers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    api::{DatabaseUserCertificate, DatabaseUserCertificateSpec, DeletionPolicy, Reason},
    certificate::CertificatePair,
    decide::{ListedCertificate, UnsavedCertificate},
    issuer::atlas::Account,
    memory::users::{DatabaseUsers, UserKey},
    secret::NamedPassword,
};

fn orders() -> ObjectKey {
    ObjectKey::new("shop", "orders")
}

fn kept() -> Kept {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let content = SecretContent {
        pair: CertificatePair::parse(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap(),
        ca_certificate: None,
        issuer: None,
        issue_reason: None,
        issuance: None,
        renew_request: None,
    };
    Kept { secret_name: "orders".to_owned(), deletion_policy: DeletionPolicy::Delete, content }
}

fn unsaved(kept: &Kept) -> ObjectMemory {
    let certificate = kept.content.pair.facts().clone();
    let unsaved = UnsavedCertificate { certificate, claim: Some("1".into()), cause: Reason::RenewalDue, failure: None };
    ObjectMemory { unsaved: Some(unsaved), ..ObjectMemory::default() }
}

#[test]
fn a_key_is_kept_until_its_certificate_is_not_unsaved_any_more() {
    let (memory, kept) = (Memory::default(), kept());
    let unsaved = unsaved(&kept);
    memory.keep(&orders(), "uid-1", kept);
    memory.remember(&orders(), "uid-1", &unsaved);
    assert_eq!(memory.object(&orders(), "uid-1"), unsaved);
    assert_eq!(memory.all_kept().len(), 1);
    memory.remember(&orders(), "uid-1", &ObjectMemory { failures: 3, ..unsaved });
    assert!(memory.kept(&orders(), "uid-1").is_some());
    memory.remember(&orders(), "uid-1", &ObjectMemory::default());
    assert!(memory.kept(&orders(), "uid-1").is_none() && memory.all_kept().is_empty());
}

#[test]
fn a_list_that_does_not_have_a_secret_any_more_has_it_forgotten_unless_it_was_written_meanwhile() {
    let memory = Memory::default();
    let secret = |name: &str| SecretLocation::new("shop", name);
    let view = |name: &str| {
        let metadata = ObjectMeta { uid: Some(name.to_owned()), ..ObjectMeta::default() };
        let object = DatabaseUserCertificate::new("orders", DatabaseUserCertificateSpec::default());
        crate::secret::read(&object, &Secret { metadata, ..Secret::default() }, &NamedPassword::default()).view
    };
    memory.read(secret("shown"), view("shown"));
    memory.read(secret("gone"), view("gone"));
    memory.wrote(secret("gone-after-its-write"), "uid-1".to_owned(), view("gone-after-its-write"));
    std::thread::sleep(Duration::from_millis(2));
    let list_began = Instant::now();
    memory.wrote(secret("new"), "uid-1".to_owned(), view("new"));
    memory.saw_everything_since(list_began, |secret| secret.name == "shown");
    let known = ["shown", "gone", "gone-after-its-write", "new"].map(|name| memory.knows(&secret(name), name));
    assert_eq!(known, [true, false, false, true]);
}

#[test]
fn nothing_is_known_of_another_object_under_the_name_and_nothing_is_forgotten_for_it() {
    let (memory, kept) = (Memory::default(), kept());
    let unsaved = unsaved(&kept);
    memory.keep(&orders(), "uid-1", kept);
    memory.remember(&orders(), "uid-1", &unsaved);
    assert_eq!(memory.object(&orders(), "uid-2"), ObjectMemory::default());
    assert!(memory.kept(&orders(), "uid-2").is_none());
    memory.remember(&orders(), "uid-2", &ObjectMemory::default());
    assert!(memory.kept(&orders(), "uid-1").is_some());
    memory.forget(&orders());
    assert!(memory.kept(&orders(), "uid-1").is_none());
}

#[test]
fn a_certificate_without_its_key_is_not_unsaved() {
    let memory = Memory::default();
    memory.remember(&orders(), "uid-1", &unsaved(&kept()));
    assert_eq!(memory.object(&orders(), "uid-1").unsaved, None);
}

/// A user of one project, by the UID of the Secret with the credentials.
fn user_of(credentials_uid: &str) -> UserKey {
    let account = Account { endpoint: "e".into(), project_id: "p".into(), credentials_uid: credentials_uid.into() };
    UserKey { account, username: "orders".into() }
}

#[test]
fn a_list_is_known_for_an_hour_or_until_an_answer_is_lost() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let (users, user) = (DatabaseUsers::default(), user_of("uid-1"));
    let neighbour = user_of("uid-2");
    let listed = ListedCertificate { serial_number: "0A".into(), made_at: at(0), not_after: at(9000) };
    users.listed(user.clone(), Some(vec![listed]), at(0));
    users.listed(neighbour.clone(), None, at(0));
    users.made(&user, "0B".into(), at(10));
    let record = users.get(&user, at(3599)).unwrap();
    assert_eq!((record.serial_numbers().len(), record.made_since), (1, [("0B".into(), at(10))].into()));
    assert_eq!(users.get(&user, at(3600)), None);
    users.forget(&user);
    assert_eq!(users.get(&user, at(20)), None);
    users.listed(user.clone(), None, at(30));
    users.forget_digest(&user.digest());
    assert_eq!(users.get(&user, at(30)), None);
    assert!(users.get(&neighbour, at(30)).is_some(), "what is lost for one account is not lost for another");
}

#[test]
fn long_lists_of_some_users_leave_the_short_ones_of_others() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let user = |name: usize| UserKey { username: name.to_string(), ..user_of("uid-1") };
    let listed = |count: usize| {
        let certificate =
            |number: usize| ListedCertificate { serial_number: number.to_string().into(), made_at: at(0), not_after: at(9000) };
        Some((0..count).map(certificate).collect())
    };
    let users = DatabaseUsers::default();
    users.listed(user(0), listed(3), at(0));
    for number in 1..=100 {
        users.listed(user(number), listed(2_000), at(0));
        assert!(users.get(&user(number), at(0)).is_some(), "what has just come is known");
    }
    let known = (0..=100).filter(|number| users.get(&user(*number), at(0)).is_some()).count();
    assert!((40..60).contains(&known), "{known}");
    assert!(users.get(&user(0), at(0)).is_some());
}
