//! The connection of a spec: when its entries are written, and what the status says of them.

use super::*;
use crate::{connection::URI, layout};

fn connected() -> DatabaseUserCertificate {
    let mut object = object();
    object.spec.connection =
        Some(Connection { hosts: vec!["db.example".into()], mount_path: "/certs".into(), ..Connection::default() });
    object
}

/// A Secret that holds what this spec asks for.
fn written_for(spec: &DatabaseUserCertificateSpec) -> Observed {
    with_view(|view| {
        view.layout.digest = layout::digest(spec);
        view.layout.entries.extend(spec.connection.iter().map(|_| URI.to_owned()));
    })
}

type Change = fn(&mut DatabaseUserCertificateSpec);

#[rstest]
#[case::given(|spec: &mut DatabaseUserCertificateSpec| spec.connection = None, |_: &mut DatabaseUserCertificateSpec| {})]
#[case::taken_away(|_: &mut DatabaseUserCertificateSpec| {}, |spec: &mut DatabaseUserCertificateSpec| spec.connection = None)]
#[case::changed(|_: &mut DatabaseUserCertificateSpec| {}, |spec: &mut DatabaseUserCertificateSpec| {
    spec.connection.as_mut().unwrap().hosts.push("other.example".into());
})]
#[case::of_another_user(
    |spec: &mut DatabaseUserCertificateSpec| spec.subject = Some("CN=orders".into()),
    |spec: &mut DatabaseUserCertificateSpec| {
        spec.subject = Some("CN=orders".into());
        spec.username = Some("reports".into());
    }
)]
fn what_the_secret_says_of_the_connection_is_put_right_without_a_new_certificate(
    #[case] before: Change,
    #[case] after: Change,
) {
    let (mut old, mut new) = (connected(), connected());
    before(&mut old.spec);
    after(&mut new.spec);
    let observed = written_for(&old.spec);
    assert!(matches!(decide(&old, &observed, at(DAY)), Decision::Keep { .. }));
    assert!(matches!(decide(&new, &observed, at(DAY)), Decision::Repair { renewal_time: Some(_) }));
}

#[test]
fn without_a_connection_a_new_user_of_one_subject_is_no_reason_to_write() {
    let mut object = object();
    object.spec.subject = Some("CN=orders".into());
    let observed = written_for(&object.spec);
    object.spec.username = Some("reports".into());
    assert!(matches!(decide(&object, &observed, at(DAY)), Decision::Keep { .. }));
}

#[test]
fn the_secret_is_bound_while_it_has_the_entries_and_they_are_asked_for() {
    let bound = |object: &DatabaseUserCertificate, observed: &Observed| {
        next_status(object, observed, &decide(object, observed, at(DAY)), at(DAY)).binding.map(|binding| binding.name)
    };
    let written = written_for(&connected().spec);
    assert_eq!(bound(&connected(), &written), Some("orders".to_owned()));
    assert_eq!(bound(&object(), &written), None, "the connection is taken away");
    assert_eq!(bound(&connected(), &observed()), None, "the entries are not there yet");
    assert_eq!(bound(&connected(), &Observed { secret: SecretState::Absent, ..written.clone() }), None);
    let mut garbled = written;
    if let SecretState::Ours(view) = &mut garbled.secret {
        view.certificate = Err("garbled".into());
    }
    assert_eq!(bound(&connected(), &garbled), None, "nobody could log in with it");
}
