//! The certificate: when it serves, why a new one is issued, and when.

use der::DecodePem;

use super::*;
use usercert_test_support::openssl::{openssl, tempfile};

#[test]
fn a_good_certificate_is_kept_until_its_renewal_time() {
    let decision = decide(&object(), &observed(), at(DAY));
    let Decision::Keep { renewal_time, .. } = decision else { panic!("{decision:?}") };
    assert!(renewal_time < at(55 * DAY) && renewal_time > at(51 * DAY), "35 days ahead, up to 3.5 earlier: {renewal_time}");
    assert_eq!(cause(&decide(&object(), &observed(), renewal_time)), Some(Reason::RenewalDue));
}

#[rstest]
#[case::absent(Observed { secret: SecretState::Absent, ..observed() }, Reason::NoCertificate)]
#[case::unusable(with_view(|view| view.certificate = Err("empty".into())), Reason::PairUnusable)]
#[case::other_issuer(with_view(|view| view.issuer = Some("atlas/1".into())), Reason::IssuerChanged)]
#[case::other_key(with_view(|view| view.certificate = Ok(CertificateFacts {
    private_key: PrivateKeySpec { algorithm: KeyAlgorithm::Rsa, size: 2048 }, ..certificate() })), Reason::PrivateKeyChanged)]
#[case::other_user(with_view(|view| view.certificate = Ok(CertificateFacts {
    subject: Subject::for_user("other").unwrap(), ..certificate() })), Reason::SubjectChanged)]
#[case::expired(with_view(|view| view.certificate = Ok(CertificateFacts { not_after: at(DAY), ..certificate() })), Reason::Expired)]
fn what_does_not_serve_is_issued_anew(#[case] observed: Observed, #[case] expected: Reason) {
    assert_eq!(cause(&decide(&object(), &observed, at(DAY))), Some(expected));
}

#[rstest]
#[case::foreign(Observed { secret: SecretState::NotOurs("belongs to nobody".into()), ..observed() }, Reason::SecretNotOwned)]
#[case::no_issuer(Observed { issuer: IssuerState::Missing, secret: SecretState::Absent, ..observed() }, Reason::IssuerNotFound)]
#[case::bad_issuer(Observed { issuer: IssuerState::Unusable(Reason::CaInvalid, "x".into()), ..observed() }, Reason::CaInvalid)]
#[case::not_allowed(with_issuer(|issuer| issuer.allow = Allow::of_cluster_issuer(None).unwrap()), Reason::IssuerNotAllowed)]
#[case::ca_ends_first(Observed { secret: SecretState::Ours(Box::new(SecretView {
    certificate: Ok(CertificateFacts { not_before: at(-89 * DAY), not_after: at(2 * DAY), ..certificate() }), ..view() })),
    ..with_issuer(|issuer| ca_of(issuer).not_after = at(2 * DAY)) }, Reason::CaExpiresFirst)]
fn what_a_person_must_change_is_refused(#[case] observed: Observed, #[case] expected: Reason) {
    assert_eq!(reason(&decide(&object(), &observed, at(DAY))), Some(expected));
}

#[test]
fn a_subject_that_the_ca_does_not_permit_is_refused_and_a_present_certificate_stays() {
    let mut asked = object();
    asked.spec.subject = Some("CN=orders,O=Other".into());
    let constrained = with_issuer(|issuer| ca_of(issuer).name_constraints = permitting_acme());
    let Decision::Block { reason, message } = decide(&asked, &constrained, at(DAY)) else { panic!("it is refused") };
    assert_eq!(reason, Reason::IssuerNotAllowed);
    assert!(message.contains(r#"permit only subjects below "O=Acme", and "CN=orders,O=Other" is not"#), "{message}");
    asked.spec.subject = Some("CN=orders,O=Acme".into());
    assert_eq!(cause(&decide(&asked, &constrained, at(DAY))), Some(Reason::SubjectChanged));

    // Without a subject of its own: the CA was given its constraints after the certificate was issued.
    assert!(matches!(decide(&object(), &constrained, at(DAY)), Decision::Block { reason: Reason::IssuerNotAllowed, .. }));
    assert!(ready_certificate(&object(), &constrained, at(DAY)).is_ok());
    let damaged = Observed { issuer: constrained.issuer, ..with_view(|view| view.complete = false) };
    assert_eq!(decide(&object(), &damaged, at(DAY)), Decision::Repair { renewal_time: None });
}

/// The name constraints of a CA that permits what is below `O=Acme`.
fn permitting_acme() -> NameConstraints {
    let directory = tempfile();
    let key = directory.join("ca.key");
    std::fs::write(&key, openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "")).unwrap();
    let permitted = "nameConstraints=critical,DER:3017a0153013a411300f310d300b060355040a0c0441636d65";
    let arguments = ["req", "-x509", "-key", key.to_str().unwrap(), "-subj", "/CN=CA", "-days", "3", "-addext", permitted];
    let certificate = crate::certificate::Certificate::from_pem(openssl(&arguments, "")).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    NameConstraints::of_chain(&[certificate]).unwrap()
}

#[test]
fn nothing_is_decided_before_the_issuer_was_looked_at() {
    let observed = Observed { issuer: IssuerState::Unknown, secret: SecretState::Absent, ..observed() };
    assert_eq!(decide(&object(), &observed, at(DAY)), Decision::Await);
}

#[test]
fn a_renewal_request_is_handled_once_per_value_even_if_the_status_is_lost() {
    let mut asked = object();
    asked.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "1".to_owned())].into());
    assert_eq!(cause(&decide(&asked, &observed(), at(DAY))), Some(Reason::RenewalRequested));
    let in_secret = with_view(|view| view.renew_request = Some("1".into()));
    assert!(matches!(decide(&asked, &in_secret, at(DAY)), Decision::Keep { .. }));
    let mut in_status = observed();
    in_status.status.renew_request_handled = Some("1".into());
    assert!(matches!(decide(&asked, &in_status, at(DAY)), Decision::Keep { .. }));
    asked.metadata.annotations = Some([(RENEW_REQUESTED_ANNOTATION.to_owned(), "2".to_owned())].into());
    assert_eq!(cause(&decide(&asked, &in_secret, at(DAY))), Some(Reason::RenewalRequested));
}

#[test]
fn a_status_that_was_wiped_is_rebuilt_and_then_stays() {
    let decision = decide(&object(), &observed(), at(DAY));
    let status = next_status(&object(), &observed(), &decision, at(DAY));
    assert_eq!(status.serial_number.as_deref(), Some("0A"));
    let again = Observed { status: status.clone(), ..observed() };
    assert_eq!(next_status(&object(), &again, &decide(&object(), &again, at(2 * DAY)), at(2 * DAY)), status);
}

#[rstest]
#[case::atlas_with_duration(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.duration = Some("2h".into()), "duration")]
#[case::atlas_with_subject(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.subject = Some("CN=a".into()), "subject")]
#[case::ca_with_months(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.months_until_expiration = Some(3), "monthsUntilExpiration")]
#[case::atlas_with_key(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec|
    spec.private_key = Some(PrivateKey { algorithm: PrivateKeyAlgorithm::Rsa, size: None }), "privateKey")]
#[case::late_renewal(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec| spec.renew_before = Some("2016h".into()), "renewBefore")]
#[case::no_duration(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.duration = Some("soon".into()), "duration")]
#[case::no_subject(IssuerType::Ca, |spec: &mut DatabaseUserCertificateSpec| spec.subject = Some("orders".into()), "subject")]
#[case::atlas_for_postgresql(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec|
    spec.connection = Some(Connection { database_type: DatabaseType::PostgreSql, ..Connection::default() }), "connection.type")]
#[case::atlas_with_own_ca(IssuerType::Atlas, |spec: &mut DatabaseUserCertificateSpec|
    spec.connection = Some(Connection { server_ca_file: Some("ca.crt".into()), ..Connection::default() }), "connection.serverCAFile")]
fn a_spec_that_the_issuer_cannot_honour_names_the_field(
    #[case] issuer_type: IssuerType,
    #[case] change: impl FnOnce(&mut DatabaseUserCertificateSpec),
    #[case] field: &str,
) {
    let mut object = object();
    change(&mut object.spec);
    let observed =
        Observed { issuer: IssuerState::Usable(Box::new(issuer(issuer_type))), secret: SecretState::Absent, ..observed() };
    let Decision::Block { reason, message } = decide(&object, &observed, at(0)) else { panic!() };
    assert_eq!(reason, Reason::InvalidSpec);
    assert!(message.contains(field), "{message}");
}

proptest! {
    #[test]
    fn the_renewal_time_is_inside_the_validity_and_the_same_each_time(
        lifetime in 3600_i64..800 * DAY, percentage in 1_u8..=90, fixed in 300_i64..900 * DAY, choice in 0..3, uid in ".{0,40}"
    ) {
        let certificate = CertificateFacts { not_after: at(lifetime), ..certificate() };
        let wanted = match choice {
            0 => RenewBefore::Default,
            1 => RenewBefore::Percentage(percentage),
            _ => RenewBefore::Time(SignedDuration::from_secs(fixed)),
        };
        let time = renewal_time(&certificate, wanted, &uid);
        prop_assert!(time >= at(lifetime / 10 - 1) && time < certificate.not_after);
        prop_assert_eq!(time, renewal_time(&certificate, wanted, &uid));
    }

    #[test]
    fn every_input_has_a_decision_and_reporting_it_settles(
        now in -200 * DAY..400 * DAY, absent: bool, broken: bool, complete: bool, atlas: bool, other_issuer: bool,
        claim in proptest::option::of("[a-c]"), answered in proptest::option::of("[a-c]"),
    ) {
        let mut observed = with_view(|view| {
            view.complete = complete;
            view.issuance = answered;
            if other_issuer { view.issuer = Some("ca/2".into()); }
            if broken { view.certificate = Err("garbled".into()); }
        });
        if absent { observed.secret = SecretState::Absent; }
        if atlas { observed.issuer = IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))); }
        observed.status.issuance = claim.map(|id| Issuance { id, reason: "NoCertificate".into(), attempt: 1, since: Time(at(0)), user: None, process: None });
        let decision = decide(&object(), &observed, at(now));
        let status = next_status(&object(), &observed, &decision, at(now));
        observed.status = status.clone();
        let again = decide(&object(), &observed, at(now));
        prop_assert_eq!(next_status(&object(), &observed, &again, at(now)), status, "a second report changes nothing");
    }
}

#[rstest]
#[case("2160h", Some(2160 * 3600))]
#[case("1h30m5s", Some(5405))]
#[case("90m", Some(5400))]
#[case("000000000001h", Some(3600))]
#[case("999999999999999h16s", Some(3_599_999_999_999_996_416))]
#[case("59s", None)]
#[case("0s", None)]
#[case("", None)]
#[case("h", None)]
#[case("5", None)]
#[case("5d", None)]
#[case("1m1h", None)]
#[case("1h1h", None)]
#[case("1.5h", None)]
#[case("-1h", None)]
#[case("5h-3s", None)]
#[case("99999999999999999999h", None)]
#[case("9223372036854775807h", None)]
fn a_duration_is_what_the_schema_admits_and_nothing_else_has_an_effect(#[case] text: &str, #[case] seconds: Option<i64>) {
    let parsed = parse_duration("spec.duration", text);
    assert_eq!(parsed.as_ref().ok().map(SignedDuration::as_secs), seconds);
    assert!(parsed.is_ok() || parsed.unwrap_err().0.starts_with("spec.duration"));
}

#[rstest]
#[case("C=US,ST=California,O=PAN Inc.,OU=AppServices,CN=appsvc-dev", true)]
#[case("OU=apps,CN=orders", true)]
#[case("ou=apps, cn=orders", true)]
#[case("CN = orders, OU = apps, O = Acme", true)]
#[case("/C=US/O=Acme/CN=orders", true)]
#[case("emailAddress=a@example.com,CN=orders", true)]
#[case("2.5.4.11=apps,CN=orders", true)]
#[case("UID=1+OU=apps", true)]
#[case("O=Acme, Inc.,CN=orders", true)]
#[case("CN=orders,OU=apps", false)]
#[case("cn=orders,ou=apps", false)]
#[case("OU=apps", false)]
#[case("a=1,b=2", false)]
#[case("orders,CN=x", false)]
#[case("team/app=1", false)]
fn a_user_name_that_reads_as_a_distinguished_name_is_no_common_name(#[case] name: &str, #[case] is_refused: bool) {
    let mut named = object();
    named.spec.username = Some(name.to_owned());
    let nothing = Observed { secret: SecretState::Absent, ..observed() };
    let decision = decide(&named, &nothing, at(0));
    match &decision {
        Decision::Block { reason: Reason::InvalidSpec, message } => assert!(is_refused && message.contains("spec.subject")),
        decision => assert!(!is_refused && matches!(decision, Decision::Issue { .. }), "{decision:?}"),
    }
    named.spec.subject = Some("CN=orders".to_owned());
    assert!(matches!(decide(&named, &nothing, at(0)), Decision::Issue { .. }), "the subject says what is meant");
    named.spec.subject = None;
    let atlas = Observed { issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))), ..nothing };
    assert!(matches!(decide(&named, &atlas, at(0)), Decision::LookUpUser { .. }), "Atlas names the user as it is");

    // Release 0.1.0 has made one.
    if is_refused {
        let made = with_view(|view| {
            view.certificate = Ok(CertificateFacts { subject: Subject::for_user(name).unwrap(), ..certificate() });
        });
        let refused = decide(&named, &made, at(DAY));
        let status = next_status(&named, &made, &refused, at(DAY));
        let stands = |type_| condition(&status.conditions, type_).map(|one| (one.status.clone(), one.reason.clone())).unwrap();
        assert_eq!(stands(READY), ("True".to_owned(), "Issued".to_owned()));
        assert_eq!(stands(ISSUING), ("False".to_owned(), "InvalidSpec".to_owned()));
    }
}

#[test]
fn a_long_common_name_is_issued_with_a_warning() {
    let long = "x".repeat(65);
    let mut named = object();
    named.spec.username = Some(long.clone());
    let made = |name: &str| {
        with_view(|view| view.certificate = Ok(CertificateFacts { subject: Subject::for_user(name).unwrap(), ..certificate() }))
    };
    let status = next_status(&named, &made(&long), &decide(&named, &made(&long), at(DAY)), at(DAY));
    let message = &condition(&status.conditions, ISSUING).unwrap().message;
    assert!(
        message.ends_with("; the common name has 65 characters and RFC 5280 allows 64: other programs may refuse it"),
        "{message}"
    );
    assert_eq!(long_name_warning(&made(&"ä".repeat(64))), None, "characters count, not bytes");
    let atlas = Observed { issuer: IssuerState::Usable(Box::new(issuer(IssuerType::Atlas))), ..made(&long) };
    assert_eq!(long_name_warning(&atlas), None, "Atlas chose it");
}
