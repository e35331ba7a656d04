//! What an issuer tells of its credentials.

use super::*;

fn atlas() -> IssuerFacts {
    issuer(IssuerType::Atlas)
}

/// A certificate that was refused at this second with the issuer as it is.
fn refused_at(second: i64, reason: Reason) -> DatabaseUserCertificate {
    let mut object = object();
    let mut status = DatabaseUserCertificateStatus::default();
    let desired = Desired::new(&object, &atlas()).unwrap();
    let error = IssueError { reason, message: "no".into(), retry: Retry::Slowly, minted: Minted::No };
    record_failure(&mut status, Some(&Inputs::new(&desired, &atlas())), &desired.uid, None, &error, at(second));
    object.status = Some(status);
    object
}

fn issued_at(second: i64) -> DatabaseUserCertificate {
    let issued = IssuedCertificate {
        serial_number: "0A".into(),
        reason: "NoCertificate".into(),
        issuer: Some(atlas().identity.to_string()),
        recorded_at: Time(at(second)),
        not_after: Time(at(second + DAY)),
    };
    let status = DatabaseUserCertificateStatus { history: vec![issued], ..DatabaseUserCertificateStatus::default() };
    DatabaseUserCertificate { status: Some(status), ..object() }
}

#[test]
fn an_issuer_tells_the_last_refusal_of_its_credentials_until_a_certificate_is_issued() {
    let refused = refused_at(100, Reason::AtlasUnauthorized);
    assert_eq!(refused_credentials(&atlas(), []), None);
    assert_eq!(refused_credentials(&atlas(), [&object(), &refused]), Some(Reason::AtlasUnauthorized));
    let later = refused_at(200, Reason::AtlasAccountSuspended);
    assert_eq!(refused_credentials(&atlas(), [&later, &refused]), Some(Reason::AtlasAccountSuspended));
    assert_eq!(refused_credentials(&atlas(), [&refused, &issued_at(100)]), Some(Reason::AtlasUnauthorized));
    assert_eq!(refused_credentials(&atlas(), [&refused, &issued_at(101)]), None);
}

#[test]
fn a_suspended_certificate_tells_no_refusal_and_still_tells_that_it_was_issued() {
    let suspended = |mut object: DatabaseUserCertificate| {
        object.spec.suspend = true;
        object
    };
    let refused = refused_at(100, Reason::AtlasUnauthorized);
    assert_eq!(refused_credentials(&atlas(), [&suspended(refused.clone())]), None, "it is not tried");
    assert_eq!(refused_credentials(&atlas(), [&refused, &suspended(issued_at(101))]), None);
}

#[test]
fn within_a_second_the_later_write_counts() {
    let version = |mut object: DatabaseUserCertificate, version: &str| {
        object.metadata.resource_version = Some(version.to_owned());
        object
    };
    let refused = version(refused_at(100, Reason::AtlasUnauthorized), "9");
    assert_eq!(refused_credentials(&atlas(), [&refused, &version(issued_at(100), "8")]), Some(Reason::AtlasUnauthorized));
    assert_eq!(refused_credentials(&atlas(), [&refused, &version(issued_at(100), "10")]), None);
}

#[test]
fn a_refusal_of_other_credentials_or_of_something_else_is_none() {
    let refused = refused_at(100, Reason::AtlasUnauthorized);
    let renewed = IssuerFacts { version: "2".into(), ..atlas() };
    assert_eq!(refused_credentials(&renewed, [&refused]), None, "the Secret was replaced");
    let of_the_user = refused_at(100, Reason::AtlasUserNotManaged);
    assert_eq!(refused_credentials(&atlas(), [&of_the_user]), None);
}
