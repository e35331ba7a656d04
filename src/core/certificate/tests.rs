//! Statements about names, keys and pairs. Each is compared with what OpenSSL says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod keystore;
mod pem;

use der::Encode;
use proptest::prelude::*;
use rstest::rstest;
use secrecy::ExposeSecret;
use usercert_test_support::openssl::{openssl, tempfile};

use super::*;

#[rstest]
#[case("orders", "CN=orders")]
#[case("a,b+c", r"CN=a\,b\+c")]
#[case("#first", r"CN=\#first")]
#[case(" edges ", r"CN=\ edges\ ")]
#[case(r#"quote"back\slash"#, r#"CN=quote\"back\\slash"#)]
#[case("team/app:1%2F", "CN=team/app:1%2F")]
#[case("a=b;c<d>e", r"CN=a=b\;c\<d\>e")]
#[case("müller@例", "CN=müller@例")]
fn a_common_name_may_have_any_characters(#[case] name: &str, #[case] text: &str) {
    let subject = Subject::common_name(name).unwrap();
    assert_eq!(subject.to_string(), text);
    assert_eq!(Subject::parse(text).unwrap(), subject);
}

#[test]
fn a_user_name_that_begins_with_cn_is_the_whole_subject() {
    assert_eq!(Subject::for_user("CN=orders,OU=apps").unwrap(), Subject::parse("CN=orders,OU=apps").unwrap());
    assert_eq!(Subject::for_user("cn=orders").unwrap().to_string(), "CN=orders");
    assert_eq!(Subject::for_user("CNX").unwrap().to_string(), "CN=CNX");
    assert_eq!(Subject::for_user("例え").unwrap().to_string(), "CN=例え");
}

#[rstest]
#[case("CN=orders,OU=apps,O=Acme")]
#[case("CN=a,OU=one,OU=two,DC=example,DC=com")]
#[case("UID=7+CN=a,O=Acme")]
#[case(r"CN=back\\\,slash,O=A\, B")]
#[case("CN=x,L=Köln,ST=NRW,STREET=Dom 1,C=DE")]
fn a_subject_comes_back_as_it_was_given(#[case] text: &str) {
    assert_eq!(Subject::parse(text).unwrap().to_string(), text);
}

#[rstest]
#[case("orders", SubjectError::Attribute("orders".into()))]
#[case("CN=a, OU=b", SubjectError::Attribute(" OU=b".into()))]
#[case("XX=a", SubjectError::Attribute("XX=a".into()))]
#[case("CN=", SubjectError::Empty("CN".into()))]
#[case("CN=a,OU=", SubjectError::Empty("OU".into()))]
#[case(r"CN=a\", SubjectError::Escape)]
#[case(r"CN=a\zb", SubjectError::Escape)]
#[case("CN=a ", SubjectError::Unescaped(' '))]
#[case("CN=#04", SubjectError::Unescaped('#'))]
#[case("CN=a;b", SubjectError::Unescaped(';'))]
#[case("CN=a\tb", SubjectError::Control)]
#[case(r"CN=a\0Ab", SubjectError::Control)]
#[case("C=Ö", SubjectError::Encoding)]
#[case(r"CN=\AA", SubjectError::Encoding)]
fn what_is_no_subject_is_refused(#[case] text: &str, #[case] error: SubjectError) {
    assert_eq!(Subject::parse(text), Err(error));
}

proptest! {
    #[test]
    fn every_name_without_control_characters_has_a_string_that_means_it(name in r"\P{Cc}{1,40}") {
        let subject = Subject::common_name(&name).unwrap();
        prop_assert_eq!(Subject::parse(&subject.to_string()).unwrap(), subject);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in r".{0,60}", tail in r"[CNOU=,+\\# a0-9]{0,30}") {
        let _ = Subject::parse(&text);
        if let Ok(subject) = Subject::parse(&format!("CN={tail}")) {
            prop_assert_eq!(Subject::parse(&subject.to_string()).unwrap(), subject);
        }
    }

    #[test]
    fn no_bytes_make_the_pair_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in r"(-----BEGIN (CERTIFICATE|PRIVATE KEY)-----\n[A-Za-z0-9+/=\n]{0,80}-----END CERTIFICATE-----\n?){0,3}") {
        let _ = CertificatePair::parse_combined(&bytes);
        let _ = CertificatePair::parse(text.as_bytes(), &bytes);
    }
}

#[rstest]
#[case("ECDSA 256")]
#[case("ECDSA 384")]
#[case("RSA 2048")]
#[case("RSA 3072")]
#[case("Ed25519")]
fn a_generated_key_is_what_was_asked_for_and_openssl_reads_it(#[case] text: &str) {
    let spec: PrivateKeySpec = text.parse().unwrap();
    let key = PrivateKey::generate(spec).unwrap();
    assert_eq!(key.spec().unwrap(), spec);
    assert_eq!(spec.to_string(), text);
    let pem = key.to_pkcs8_pem();
    openssl(&["pkey", "-noout", "-check"], pem.expose_secret());
    assert_eq!(PrivateKey::from_pem(pem.expose_secret().as_bytes()).unwrap().spec().unwrap(), spec);
}

#[rstest]
#[case::pkcs1(&["genrsa", "-traditional", "2048"])]
#[case::sec1(&["ecparam", "-name", "secp384r1", "-genkey", "-noout"])]
fn keys_in_older_formats_become_pkcs8(#[case] arguments: &[&str]) {
    let pem = openssl(arguments, "");
    let key = PrivateKey::from_pem(pem.as_bytes()).unwrap();
    let converted = key.to_pkcs8_pem();
    assert!(converted.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(openssl(&["pkey", "-pubout"], converted.expose_secret()), openssl(&["pkey", "-pubout"], &pem));
}

#[test]
fn a_pair_needs_one_certificate_at_least_and_exactly_one_key_that_fits() {
    let pem = |key: &PrivateKey| key.to_pkcs8_pem().expose_secret().to_owned();
    let key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let other = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let certificate = self_signed(&pem(&key));
    let parse = |certificates: &str, keys: &str| CertificatePair::parse(certificates.as_bytes(), keys.as_bytes()).map(|_| ());
    assert_eq!(parse(&certificate, &pem(&key)), Ok(()));
    assert_eq!(parse("", &pem(&key)), Err(PairError::NoCertificate));
    assert_eq!(parse(&certificate, ""), Err(PairError::Key(KeyError::Missing)));
    assert_eq!(parse(&certificate, &pem(&other)), Err(PairError::KeyMismatch));
    assert_eq!(parse(&certificate, &(pem(&key) + &pem(&other))), Err(PairError::Key(KeyError::Several)));
    assert_eq!(
        parse(&certificate[..certificate.len() / 2], &pem(&key)),
        Err(PairError::Pem(PemError::WithoutEnd { line: 1, label: "CERTIFICATE" }))
    );
    let combined = CertificatePair::parse_combined((pem(&key) + &certificate).as_bytes()).unwrap();
    assert_eq!(combined.certificates_pem(), certificate, "what openssl wrote comes back");
    assert_eq!(combined.combined_pem().expose_secret(), certificate.clone() + &pem(&key));
}

#[test]
fn facts_are_as_openssl_prints_them() {
    let key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let certificate = self_signed(key.to_pkcs8_pem().expose_secret());
    let pair = CertificatePair::parse(certificate.as_bytes(), key.to_pkcs8_pem().expose_secret().as_bytes()).unwrap();
    let print = |what: &str| openssl(&["x509", "-noout", what, "-nameopt", "RFC2253,utf8,-esc_msb"], &certificate);
    assert_eq!(print("-serial").trim(), format!("serial={}", pair.facts().serial_number));
    assert_eq!(print("-subject").trim(), format!("subject={}", pair.facts().subject));
    assert_eq!(print("-issuer").trim(), format!("issuer={}", pair.facts().issuer));
    let escaped = openssl(&["x509", "-noout", "-subject", "-nameopt", "RFC2253"], &certificate);
    assert_eq!(escaped.trim(), format!("subject={}", pair.facts().subject.mongodb_user_name()));
    assert!(pair.facts().subject.name().to_der().is_ok());
}

#[test]
fn a_subject_is_the_same_in_whatever_string_types_it_is_encoded() {
    let key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let key = key.to_pkcs8_pem();
    // Atlas encodes a name as PrintableString where its letters allow it.
    let certificate = printable(key.expose_secret(), "/CN=orders");
    assert!(openssl(&["asn1parse"], &certificate).contains("PRINTABLESTRING   :orders"));
    let pair = CertificatePair::parse(certificate.as_bytes(), key.expose_secret().as_bytes()).unwrap();
    let now = pair.facts().not_before;
    assert_eq!(pair.verify(&Subject::for_user("orders").unwrap(), now), Ok(()));
    assert!(matches!(pair.verify(&Subject::for_user("order").unwrap(), now), Err(PairError::OtherSubject { .. })));
    assert_eq!(Subject::parse(&pair.facts().subject.to_string()).unwrap(), pair.facts().subject, "as it is kept in the status");
    assert_ne!(Subject::parse("CN=a,OU=b").unwrap(), Subject::parse("OU=b,CN=a").unwrap(), "the order of the parts counts");
    assert_ne!(Subject::parse("CN=a,OU=b").unwrap(), Subject::parse("CN=a+OU=b").unwrap(), "so does what a part holds");
}

#[rstest]
#[case("orders", "CN=orders")]
#[case("müller, 例", r"CN=m\C3\BCller\, \E4\BE\8B")]
fn the_mongodb_user_name_is_as_openssl_prints_it(#[case] username: &str, #[case] expected: &str) {
    assert_eq!(Subject::common_name(username).unwrap().mongodb_user_name(), expected);
    assert_eq!(Subject::for_user(expected).unwrap(), Subject::common_name(username).unwrap(), "and means the same");
}

#[rstest]
#[case::pkcs8(&["genpkey", "-algorithm", "ed25519", "-aes128", "-pass", "pass:secret"])]
#[case::pkcs1(&["genrsa", "-traditional", "-aes128", "-passout", "pass:secret", "2048"])]
fn an_encrypted_key_is_refused_as_such(#[case] arguments: &[&str]) {
    assert_eq!(PrivateKey::from_pem(openssl(arguments, "").as_bytes()).map(|_| ()), Err(KeyError::Encrypted));
}

#[test]
fn debug_shows_no_key() {
    let key = PrivateKey::generate(PrivateKeySpec::default()).unwrap();
    let certificate = self_signed(key.to_pkcs8_pem().expose_secret());
    let pair = CertificatePair::parse(certificate.as_bytes(), key.to_pkcs8_pem().expose_secret().as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey([redacted])");
    let debug = format!("{pair:?}");
    assert!(!debug.contains("BEGIN") && !debug.contains("pkcs8") && !debug.contains("[4"), "{debug}");
}

/// A certificate made by OpenSSL for `CN=Dóm+UID=1,OU=b,OU=a`.
fn self_signed(key: &str) -> String {
    let directory = tempfile();
    let file = directory.join("key.pem");
    std::fs::write(&file, key).unwrap();
    let certificate = openssl(
        &[
            "req",
            "-x509",
            "-utf8",
            "-days",
            "2",
            "-key",
            file.to_str().unwrap(),
            "-subj",
            "/OU=a/OU=b/CN=Dóm+UID=1",
            "-multivalue-rdn",
        ],
        "",
    );
    std::fs::remove_dir_all(directory).unwrap();
    certificate
}

/// A certificate for clients whose names are `PrintableString`.
fn printable(key: &str, subject: &str) -> String {
    let directory = tempfile();
    let (key_file, configuration) = (directory.join("key.pem"), directory.join("openssl.cnf"));
    std::fs::write(&key_file, key).unwrap();
    let settings =
        "[req]\nstring_mask=default\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nextendedKeyUsage=clientAuth\n";
    std::fs::write(&configuration, settings).unwrap();
    let (key_file, configuration) = (key_file.to_str().unwrap(), configuration.to_str().unwrap());
    let certificate =
        openssl(&["req", "-x509", "-days", "2", "-key", key_file, "-subj", subject, "-config", configuration], "");
    std::fs::remove_dir_all(directory).unwrap();
    certificate
}
