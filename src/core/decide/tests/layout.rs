//! What a Secret holds besides the certificate: when it is written anew, and what is said.

use serde_json::json;

use super::*;
use crate::layout;

fn asking_for(spec: &serde_json::Value) -> DatabaseUserCertificate {
    let more: DatabaseUserCertificateSpec = serde::Deserialize::deserialize(spec).unwrap();
    let mut object = object();
    object.spec.formats = more.formats;
    object.spec.secret_template = more.secret_template;
    object.spec.keep_previous = more.keep_previous;
    object
}

/// The Secret as it was written for this spec.
fn written_for(spec: &serde_json::Value) -> SecretView {
    let layout = LayoutRecord { digest: layout::digest(&asking_for(spec).spec), ..LayoutRecord::default() };
    SecretView { layout, ..view() }
}

fn with(view: SecretView) -> Observed {
    Observed { secret: SecretState::Ours(Box::new(view)), ..observed() }
}

#[rstest]
#[case::nothing_is_asked_for(json!({}), json!({}), true)]
#[case::what_is_asked_for_is_there(json!({ "formats": [{ "type": "CA" }] }), json!({ "formats": [{ "type": "CA" }] }), true)]
#[case::a_format_more(json!({ "formats": [{ "type": "CA" }] }), json!({}), false)]
#[case::a_format_less(json!({}), json!({ "formats": [{ "type": "CA" }] }), false)]
#[case::another_name(json!({ "formats": [{ "type": "CA", "key": "a" }] }), json!({ "formats": [{ "type": "CA" }] }), false)]
#[case::another_label(json!({ "secretTemplate": { "labels": { "a": "b" } } }), json!({ "secretTemplate": { "labels": { "a": "c" } } }), false)]
#[case::the_former_pair(json!({ "keepPrevious": true }), json!({}), false)]
fn the_secret_follows_the_spec_without_a_new_certificate(
    #[case] spec: serde_json::Value,
    #[case] written: serde_json::Value,
    #[case] is_kept: bool,
) {
    let (object, mut observed) = (asking_for(&spec), with(written_for(&written)));
    let decision = decide(&object, &observed, at(DAY));
    assert_eq!(matches!(decision, Decision::Keep { .. }), is_kept, "{decision:?}");
    assert!(is_kept || matches!(decision, Decision::Repair { renewal_time: Some(_) }), "{decision:?}");
    observed.issuer = IssuerState::Missing;
    let without_issuer = decide(&object, &observed, at(DAY));
    assert_eq!(without_issuer == Decision::Repair { renewal_time: None }, !is_kept, "{without_issuer:?}");
}

#[test]
fn the_former_pair_goes_when_it_expires_and_the_object_wakes_then() {
    let spec = json!({ "keepPrevious": true });
    let (object, observed) =
        (asking_for(&spec), with(SecretView { previous_not_after: Some(at(10 * DAY)), ..written_for(&spec) }));
    let decision = decide(&object, &observed, at(DAY));
    assert!(matches!(decision, Decision::Keep { .. }), "{decision:?}");
    assert_eq!(next_look(&observed, &decision, at(DAY)), Some(at(10 * DAY)));
    assert!(matches!(decide(&object, &observed, at(10 * DAY)), Decision::Repair { renewal_time: Some(_) }));
}

#[test]
fn a_keystore_without_a_password_is_said_and_takes_nothing_from_a_certificate_that_works() {
    let spec = json!({ "formats": [{ "type": "PKCS12", "passwordSecretRef": { "name": "a", "key": "b" } }] });
    let keystore = KeystoreView { fault: Some("create the Secret a".into()), ..KeystoreView::default() };
    let (object, mut observed) = (asking_for(&spec), with(SecretView { keystore, ..written_for(&spec) }));
    let told = |observed: &Observed| {
        let decision = decide(&object, observed, at(DAY));
        let status = next_status(&object, observed, &decision, at(DAY));
        let [ready, issuing] = [READY, ISSUING].map(|type_| condition(&status.conditions, type_).unwrap().reason.clone());
        (ready, issuing, status.conditions.len(), status.verified, next_look(observed, &decision, at(DAY)))
    };
    let (ready, issuing, conditions, verified, next) = told(&observed);
    assert_eq!((ready.as_str(), issuing.as_str()), ("Issued", "KeystorePasswordUnusable"));
    assert_eq!(conditions, 2, "neither Stalled nor RenewalFailed");
    assert_eq!(verified, None, "after a restart the Secret is read again");
    assert!(next.unwrap() > at(2 * DAY), "a change of the other Secret wakes the object: {next:?}");
    view_of(&mut observed).keystore.is_passing = true;
    assert_eq!(told(&observed).4, Some(at(DAY + 30)), "what passes by itself is read again soon");
    view_of(&mut observed).keystore = KeystoreView { password: Some("uid/7".into()), ..KeystoreView::default() };
    let (_, issuing, _, verified, _) = told(&observed);
    assert_eq!((issuing.as_str(), verified.unwrap().keystore_password.as_deref()), ("Issued", Some("uid/7")));
}

fn view_of(observed: &mut Observed) -> &mut SecretView {
    let SecretState::Ours(view) = &mut observed.secret else { panic!() };
    view
}

#[test]
fn a_reason_to_renew_comes_before_a_missing_password() {
    let spec = json!({ "formats": [{ "type": "PKCS12", "passwordSecretRef": { "name": "a", "key": "b" } }] });
    let keystore = KeystoreView { fault: Some("create the Secret a".into()), ..KeystoreView::default() };
    let (object, observed) = (asking_for(&spec), with(SecretView { keystore, ..written_for(&spec) }));
    let expiry = observed.secret.certificate().unwrap().not_after;
    assert_eq!(cause(&decide(&object, &observed, expiry)), Some(Reason::Expired));
}
