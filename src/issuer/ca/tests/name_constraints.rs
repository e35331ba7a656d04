//! Name constraints. Our verdict on each subject is compared with that of `openssl verify`.

use std::{collections::HashMap, fmt::Write as _, process::Command};

use proptest::prelude::*;

use super::*;

/// A subtree: `permitted` or `excluded`, the kind of name as a configuration of OpenSSL has it, and the base (for `dirName` in
/// the form of `-subj`). With `own` it is an alternative name of the CA itself.
type Constraint<'a> = (&'a str, &'a str, &'a str);

const ACME: Constraint<'_> = ("permitted", "dirName", "/O=Acme");

/// A chain of CAs, the lowest first, with the key of the lowest.
struct Chain {
    files: Files,
    certificates: Vec<String>,
}

impl Chain {
    /// A root with this name and these constraints.
    fn root(name: &str, constraints: &[Constraint<'_>]) -> Self {
        let files = Files(tempfile());
        let key = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "");
        std::fs::write(files.path("ca.key"), key).unwrap();
        std::fs::write(files.path("ca.cnf"), configuration(constraints)).unwrap();
        let (key, settings) = (files.path("ca.key"), files.path("ca.cnf"));
        let arguments = ["req", "-x509", "-key", &key, "-subj", name, "-config", &settings, "-extensions", "ext", "-days", "3"];
        let certificate = openssl(&arguments, "");
        Self { files, certificates: vec![certificate] }
    }

    /// A root whose constraints have this encoding.
    fn root_with_encoded(constraints: &[u8]) -> Self {
        let extension = format!("nameConstraints=critical,DER:{}", hex::encode(constraints));
        let files = make_ca(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], &["-days", "3", "-addext", &extension]);
        Self { certificates: vec![String::from_utf8(files.read("ca.crt")).unwrap()], files }
    }

    /// The same chain with one more CA below it, which has a key of its own.
    fn above(mut self, name: &str, constraints: &[Constraint<'_>]) -> Self {
        let file = |name: &str| self.files.path(name);
        let key = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "");
        std::fs::write(file("sub.key"), key).unwrap();
        std::fs::write(file("ca.crt"), &self.certificates[0]).unwrap();
        std::fs::write(file("ca.cnf"), configuration(constraints)).unwrap();
        let request = openssl(&["req", "-new", "-key", &file("sub.key"), "-subj", name], "");
        let (settings, ca, ca_key) = (file("ca.cnf"), file("ca.crt"), file("ca.key"));
        let signed = ["x509", "-req", "-CA", &ca, "-CAkey", &ca_key, "-set_serial", "7", "-days", "3", "-extfile", &settings];
        let certificate = openssl(&[&signed[..], &["-extensions", "ext"]].concat(), &request);
        std::fs::write(file("sub.crt"), &certificate).unwrap();
        std::fs::rename(file("sub.key"), file("ca.key")).unwrap();
        self.certificates.insert(0, certificate);
        self
    }

    fn load(&self) -> Result<CaIssuer, CaError> {
        let certificates = self.certificates.concat();
        CaIssuer::from_secret(Some(certificates.as_bytes()), Some(&self.files.read("ca.key")), Timestamp::now())
    }

    /// Our verdict on each subject. It was compared with that of OpenSSL on the certificate that would have been signed.
    fn verdicts(&self, subjects: &[&str]) -> Vec<Result<(), String>> {
        let ca = self.load().unwrap();
        std::fs::write(self.files.path("root.crt"), self.certificates.last().unwrap()).unwrap();
        std::fs::write(self.files.path("chain.crt"), self.certificates.concat()).unwrap();
        let file = |index: usize| self.files.path(&format!("{index}.crt"));
        let verdicts: Vec<Result<(), String>> = subjects
            .iter()
            .enumerate()
            .map(|(index, subject)| {
                let request = SignRequest { subject: Subject::parse(subject).unwrap(), ..request(PrivateKeySpec::default()) };
                let unasked = ca.sign_and_verify(&request, PrivateKey::generate).unwrap();
                std::fs::write(file(index), unasked.certificates_pem()).unwrap();
                let issued = ca.issue(&request);
                assert_eq!(issued.is_ok(), ca.name_constraints().check(&request.subject).is_ok());
                issued.map(|_| ()).map_err(|error| {
                    assert_eq!(error.reason, Reason::IssuerNotAllowed);
                    error.message
                })
            })
            .collect();
        let leaves: Vec<String> = (0..subjects.len()).map(file).collect();
        let accepted = accepted_by_openssl(&self.files, &leaves);
        for ((subject, verdict), leaf) in subjects.iter().zip(&verdicts).zip(&leaves) {
            assert_eq!(verdict.is_ok(), accepted[leaf.as_str()], "OpenSSL differs about {subject}: {verdict:?}");
        }
        verdicts
    }
}

/// Which of these certificates OpenSSL accepts from a client. It refuses the others because of their names.
fn accepted_by_openssl(files: &Files, leaves: &[String]) -> HashMap<String, bool> {
    let (root, chain) = (files.path("root.crt"), files.path("chain.crt"));
    let arguments = ["verify", "-purpose", "sslclient", "-CAfile", &root, "-untrusted", &chain];
    let output = Command::new("openssl").args(arguments).args(leaves).output().unwrap();
    let (accepted, refused) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    let is_accepted = |leaf: &String| accepted.lines().any(|line| line == format!("{leaf}: OK"));
    let verdicts: HashMap<String, bool> = leaves.iter().map(|leaf| (leaf.clone(), is_accepted(leaf))).collect();
    let for_names = ["error 47 at 0", "error 48 at 0", "error 49 at 0"];
    let reasons = refused.lines().filter(|line| for_names.iter().any(|reason| line.starts_with(reason))).count();
    assert_eq!(reasons, verdicts.values().filter(|accepted| !**accepted).count(), "{accepted}{refused}");
    verdicts
}

/// A configuration with the extensions of a CA in `ext`.
fn configuration(constraints: &[Constraint<'_>]) -> String {
    let mut list = Vec::new();
    let mut sections = String::new();
    let own: Vec<String> =
        constraints.iter().filter(|(which, ..)| *which == "own").map(|(_, kind, name)| format!("{kind}:{name}")).collect();
    let own = if own.is_empty() { String::new() } else { format!("subjectAltName={}\n", own.join(",")) };
    for (index, (which, kind, base)) in constraints.iter().filter(|(which, ..)| *which != "own").enumerate() {
        if *kind == "dirName" {
            list.push(format!("{which};dirName:name{index}"));
            let _ = write!(sections, "[name{index}]\n{}", section(base));
        } else {
            list.push(format!("{which};{kind}:{base}"));
        }
    }
    let list = if list.is_empty() { String::new() } else { format!("nameConstraints=critical,{}\n", list.join(",")) };
    format!(
        "[req]\ndistinguished_name=dn\n[dn]\n[ext]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n\
         authorityKeyIdentifier=keyid\n{own}{list}{sections}"
    )
}

/// A name as a section of a configuration. The number keeps the attributes apart; `+` puts an attribute into the part before.
fn section(name: &str) -> String {
    let mut lines = String::new();
    for (index, part) in name.split('/').skip(1).filter(|part| !part.is_empty()).enumerate() {
        for (place, attribute) in part.split('+').enumerate() {
            let (type_, value) = attribute.split_once('=').unwrap();
            let plus = if place > 0 { "+" } else { "" };
            let _ = writeln!(lines, "{index}{place}.{plus}{type_}=\"{value}\"");
        }
    }
    lines
}

#[rstest]
#[case::none(&[], &["CN=orders", "CN=a.example.com,O=Other"], &[])]
#[case::prefix(&[ACME], &["CN=orders,O=Acme", "O=Acme", "CN=orders,OU=apps,O=Acme"], &["CN=orders,O=Other", "CN=orders",
    "CN=orders,O=Acme,C=DE", "O=Acme,CN=orders", "CN=orders,OU=Acme", "CN=orders,O=Acme2", "CN=orders,OU=x+O=Acme"])]
#[case::case_and_white_space(&[("permitted", "dirName", "/O= aCME   Corp ")], &["CN=a,O=Acme Corp", "CN=a,O=acme  CORP",
    r"CN=a,O=\ Acme Corp\ "], &["CN=a,O=AcmeCorp", "CN=a,O=Acme Corp."])]
#[case::order_of_the_parts(&[("permitted", "dirName", "/DC=com/DC=example/OU=db")], &["CN=a,OU=db,DC=example,DC=com"],
    &["CN=a,DC=example,DC=com", "CN=a,DC=com,DC=example,OU=db", "DC=com,DC=example,OU=db,CN=a", "CN=a,OU=db,DC=com,DC=example"])]
#[case::several_permitted(&[ACME, ("permitted", "dirName", "/O=Other/OU=x")], &["CN=a,O=Acme", "CN=a,OU=x,O=Other"],
    &["CN=a,O=Other", "CN=a,OU=y,O=Other"])]
#[case::excluded(&[("excluded", "dirName", "/O=Acme/OU=members")], &["CN=a,O=Acme", "CN=a,OU=x,O=Acme", "CN=a"],
    &["CN=a,OU=members,O=Acme", "OU=Members,O=ACME"])]
#[case::excluded_below_permitted(&[ACME, ("excluded", "dirName", "/O=Acme/OU=members")], &["CN=a,OU=apps,O=Acme"],
    &["CN=a,OU=members,O=Acme", "CN=a,O=Other"])]
#[case::several_attributes_in_a_part(&[("permitted", "dirName", "/O=Acme+OU=apps")], &["CN=a,O=Acme+OU=apps", "CN=a,OU=apps+O=Acme",
    "CN=b+UID=1,OU=APPS+O=acme"], &["CN=a,OU=apps,O=Acme", "CN=a,O=Acme", "CN=a,OU=apps+O=Acme+L=x"])]
#[case::several_attributes_in_another_order(
    &[("permitted", "dirName", "/O=a      b+OU=apps")],
    &["CN=x,OU=apps+O=a b", "CN=x,O=A  B+OU=APPS"],
    &["CN=x,OU=apps+O=ab"],
)]
#[case::empty_base(&[("permitted", "dirName", "/")], &["CN=a", "CN=a,O=Acme"], &[])]
#[case::empty_base_excluded(&[("excluded", "dirName", "/")], &[], &["CN=a", "CN=a,O=Acme"])]
#[case::dns(&[("permitted", "DNS", "example.com")], &["CN=orders", "CN=a.example.com", "CN=example.com", "CN=A.EXAMPLE.COM,O=x",
    "CN=a-.example.com", "CN=*.other.com", "CN=a..b", "CN=.other.com", "CN=other.com.", "CN=-other.com", "CN=a b.c", "CN=büro.x.y",
    "UID=a.other.com"],
    &["CN=a.other.com", "CN=aexample.com", "CN=com.example", "CN=a_b.x", "CN=1.2.3.4", "CN=a.example.com,CN=a.other.com", "CN=x-y.z"])]
#[case::dns_with_a_leading_dot(&[("permitted", "DNS", ".example.com")], &["CN=a.example.com", "CN=orders"],
    &["CN=example.com", "CN=aexample.com"])]
#[case::dns_excluded(&[("excluded", "DNS", "example.com")], &["CN=a.other.com", "CN=example"], &["CN=a.Example.com", "CN=example.com"])]
#[case::dns_and_names(&[ACME, ("permitted", "DNS", "example.com")], &["CN=a,O=Acme", "CN=a.example.com,O=Acme"],
    &["CN=a.other.com,O=Acme", "CN=a.example.com"])]
#[case::other_kinds(&[("permitted", "email", "acme.com"), ("permitted", "URI", ".acme.com"), ("permitted", "IP", "10.0.0.0/255.0.0.0"),
    ("permitted", "RID", "1.2.3"), ("permitted", "otherName", "1.2.3;UTF8:x"), ("excluded", "email", "x.com")],
    &["CN=orders", "CN=a@b.com", "CN=1.2.3.4", "CN=http://x.y"], &[])]
fn the_subtrees_of_a_root_bind_subjects(
    #[case] constraints: &[Constraint<'_>],
    #[case] inside: &[&str],
    #[case] outside: &[&str],
) {
    let verdicts = Chain::root("/O=Acme/CN=CA", constraints).verdicts(&[inside, outside].concat());
    for (subject, verdict) in [inside, outside].concat().iter().zip(&verdicts) {
        assert_eq!(verdict.is_ok(), inside.contains(subject), "{subject}: {verdict:?}");
    }
}

#[rstest]
#[case(&[ACME], "CN=orders,O=Other",
    r#"the nameConstraints of the CA CN=CA,O=Acme permit only subjects below "O=Acme", and "CN=orders,O=Other" is not: change it"#)]
#[case(&[ACME, ("permitted", "dirName", "/O=B"), ("permitted", "dirName", "/O=C"), ("permitted", "dirName", "/O=D")], "CN=x",
    r#"the nameConstraints of the CA CN=CA,O=Acme permit only subjects below "O=Acme" or "O=B" or "O=C" or others, and "CN=x" is not: change it"#)]
#[case(&[("excluded", "dirName", "/O=Acme/OU=members")], "CN=a,OU=members,O=Acme",
    r#"the nameConstraints of the CA CN=CA,O=Acme exclude subjects below "OU=members,O=Acme", and "CN=a,OU=members,O=Acme" is: change it"#)]
#[case(&[("permitted", "DNS", "example.com")], "CN=a.b",
    r#"the nameConstraints of the CA CN=CA,O=Acme permit only DNS names below "example.com", and "a.b" is not: change it"#)]
fn a_violation_names_the_ca_and_the_subtree(
    #[case] constraints: &[Constraint<'_>],
    #[case] subject: &str,
    #[case] sentence: &str,
) {
    assert_eq!(Chain::root("/O=Acme/CN=CA", constraints).verdicts(&[subject]), [Err(sentence.to_owned())]);
}

/// One permitted subtree for an O with this string type and value, and with these distances behind it.
fn permitted_organisation(string_type: u8, value: &[u8], distances: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let attribute = tlv(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x0A][..], &tlv(string_type, value)].concat());
    let name = tlv(0xA4, &tlv(0x30, &tlv(0x31, &attribute)));
    tlv(0x30, &tlv(0xA0, &tlv(0x30, &[&name[..], distances].concat())))
}

#[rstest]
#[case::none(&[], true)]
#[case::minimum_zero(&[0x80, 1, 0], true)]
#[case::minimum(&[0x80, 1, 1], false)]
#[case::maximum(&[0x81, 1, 1], false)]
fn a_minimum_or_maximum_is_refused(#[case] distances: &[u8], #[case] permitted: bool) {
    let chain = Chain::root_with_encoded(&permitted_organisation(0x0C, b"Acme", distances));
    let verdict = &chain.verdicts(&["CN=orders,O=Acme"])[0];
    assert_eq!(verdict.is_ok(), permitted, "{verdict:?}");
    assert!(
        permitted || verdict.as_ref().unwrap_err().contains(r#"give "O=Acme" a minimum or maximum, which databases refuse"#)
    );
}

#[rstest]
#[case::utf8(0x0C, "Müller".as_bytes(), true)]
#[case::teletex(0x14, b"M\xFCller", true)]
#[case::bmp(0x1E, b"\0M\0\xFC\0l\0l\0e\0r", true)]
#[case::other_case_outside_ascii(0x0C, "MÜLLER".as_bytes(), false)]
fn the_string_type_of_a_subtree_does_not_matter(#[case] string_type: u8, #[case] value: &[u8], #[case] permitted: bool) {
    let chain = Chain::root_with_encoded(&permitted_organisation(string_type, value, &[]));
    assert_eq!(chain.verdicts(&["CN=a,O=MüLLER"])[0].is_ok(), permitted);
}

#[rstest]
#[case::printable(0x13, true)]
#[case::ia5(0x16, true)]
#[case::numeric(0x12, false)]
fn digits_are_compared_as_text_unless_they_are_a_numeric_string(#[case] string_type: u8, #[case] permitted: bool) {
    let chain = Chain::root_with_encoded(&permitted_organisation(string_type, b"123", &[]));
    assert_eq!(chain.verdicts(&["CN=a,O=123"])[0].is_ok(), permitted);
}

/// Subtrees that a configuration cannot express: a DNS name without a letter, and a name of one part without an attribute.
#[rstest]
#[case::permitted_dns(&[0x30, 6, 0xA0, 4, 0x30, 2, 0x82, 0], [true, true])]
#[case::excluded_dns(&[0x30, 6, 0xA1, 4, 0x30, 2, 0x82, 0], [false, true])]
#[case::permitted_name(&[0x30, 10, 0xA0, 8, 0x30, 6, 0xA4, 4, 0x30, 2, 0x31, 0], [true, true])]
#[case::excluded_name(&[0x30, 10, 0xA1, 8, 0x30, 6, 0xA4, 4, 0x30, 2, 0x31, 0], [false, false])]
fn an_empty_base_is_above_all_names(#[case] constraints: &[u8], #[case] permitted: [bool; 2]) {
    let verdicts = Chain::root_with_encoded(constraints).verdicts(&["CN=a.b", "CN=orders"]);
    assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), permitted);
}

#[test]
fn each_ca_of_the_chain_binds() {
    let inside_both = ["CN=a,OU=apps,O=Acme", "CN=a,OU=members,O=Acme", "CN=a,O=Acme", "CN=a,O=Other"];
    let apps = ("permitted", "dirName", "/O=Acme/OU=apps");
    for (root, sub) in [(ACME, apps), (apps, ACME)] {
        let name = if root == apps { "/O=Acme/OU=apps/CN=sub" } else { "/O=Acme/CN=sub" };
        let verdicts = Chain::root("/CN=root", &[root]).above(name, &[sub]).verdicts(&inside_both);
        assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false]);
    }
    let in_the_middle = Chain::root("/CN=root", &[]).above("/CN=middle", &[ACME]).above("/O=Acme/CN=sub", &[]);
    assert_eq!(in_the_middle.verdicts(&["CN=a,O=Acme", "CN=a"]).iter().filter(|verdict| verdict.is_ok()).count(), 1);
}

#[test]
fn a_ca_outside_of_what_the_one_above_permits_is_refused_unless_it_is_issued_to_itself() {
    let outside = Chain::root("/CN=root", &[ACME]).above("/O=Other/CN=sub", &[]);
    let error = outside.load().map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tls.crt: the CA CN=sub,O=Other has a name that a CA above it does not permit: the nameConstraints of the CA CN=root \
         permit only subjects below \"O=Acme\", and \"CN=sub,O=Other\" is not: change it"
    );
    assert_eq!(error.reason(), Reason::CaInvalid);

    let issued_to_itself = Chain::root("/CN=root", &[ACME]).above("/CN=root", &[]);
    assert!(issued_to_itself.verdicts(&["CN=a,O=Acme", "CN=a,O=Other"])[0].is_ok());
    let dns_name_of_a_ca = Chain::root("/CN=root", &[("permitted", "DNS", "example.com")]).above("/CN=ca.other.com", &[]);
    assert!(dns_name_of_a_ca.verdicts(&["CN=a", "CN=a.other.com"])[0].is_ok(), "the common name of a CA is no DNS name");
}

/// Whether the CA is accepted, and whether OpenSSL accepts it. They differ because this operator compares fewer kinds of names.
#[rstest]
#[case::name(ACME, "/O=Other/CN=sub", &[], false, false)]
#[case::alternative_name(("permitted", "DNS", "example.com"), "/CN=sub", &[("own", "DNS", "ca.example.com")], true, true)]
#[case::other_alternative_name(("permitted", "DNS", "example.com"), "/CN=sub", &[("own", "DNS", "ca.other.com")], false, false)]
#[case::one_of_two(("excluded", "DNS", "x.com"), "/CN=sub", &[("own", "DNS", "a.com"), ("own", "DNS", "x.com")], false, false)]
#[case::address(("excluded", "IP", "10.0.0.0/255.0.0.0"), "/CN=sub", &[("own", "IP", "10.0.0.1")], false, false)]
#[case::address_inside(("permitted", "IP", "10.0.0.0/255.0.0.0"), "/CN=sub", &[("own", "IP", "10.0.0.1")], false, true)]
#[case::no_address(("permitted", "IP", "10.0.0.0/255.0.0.0"), "/CN=sub", &[("own", "DNS", "a.com")], true, true)]
#[case::email(("permitted", "email", "acme.com"), "/CN=sub/emailAddress=ca@other.com", &[], false, false)]
#[case::email_inside(("permitted", "email", "acme.com"), "/CN=sub/emailAddress=ca@acme.com", &[], false, true)]
fn a_name_of_a_ca_is_compared_or_refused(
    #[case] above: Constraint<'_>,
    #[case] name: &str,
    #[case] own: &[Constraint<'_>],
    #[case] taken: bool,
    #[case] taken_by_openssl: bool,
) {
    let chain = Chain::root("/CN=root", &[above]).above(name, own);
    let loaded = chain.load();
    assert_eq!(loaded.is_ok(), taken, "{loaded:?}");
    let (root, sub) = (chain.files.path("ca.crt"), chain.files.path("sub.crt"));
    let output = Command::new("openssl").args(["verify", "-CAfile", &root, &sub]).output().unwrap();
    assert_eq!(output.status.success(), taken_by_openssl, "{output:?}");
    if taken_by_openssl && !taken {
        let sentence = "which this operator cannot compare: have the CA issued without those";
        assert!(loaded.err().unwrap().to_string().ends_with(sentence));
    }
}

#[rstest]
#[case::cut_short(&[0x30, 0x05, 0x06])]
#[case::no_sequence(&[0x05, 0x00])]
#[case::no_utf8(&permitted_organisation(0x0C, b"\xFF", &[]))]
#[case::half_a_character(&permitted_organisation(0x1E, b"\0M\0", &[]))]
#[case::visible_string(&permitted_organisation(0x1A, b"Acme", &[]))]
#[case::octet_string(&permitted_organisation(0x04, b"Acme", &[]))]
fn constraints_that_openssl_cannot_read_are_refused(#[case] encoded: &[u8]) {
    let chain = Chain::root_with_encoded(encoded);
    assert_eq!(
        chain.load().map(|_| ()).unwrap_err().to_string(),
        "tls.crt: the CA CN=users CA,O=Acme+OU=db,DC=example,DC=com has nameConstraints that cannot be read: have it issued \
         again without them"
    );
    std::fs::write(chain.files.path("root.crt"), &chain.certificates[0]).unwrap();
    let root = chain.files.path("root.crt");
    let output = Command::new("openssl").args(["verify", "-CAfile", &root, &root]).output().unwrap();
    assert!(!output.status.success(), "OpenSSL reads it");
}

/// A name in the form of `-subj`, and the same name as RFC 4514 writes it.
fn names(lengths: std::ops::Range<usize>) -> impl Strategy<Value = (String, String)> {
    let value = prop::sample::select(vec!["a", "A", "b", "a b", "A  b", " a", "a.b", "x.a.b", "a-.b"]);
    let attribute = move |type_: &'static str| value.clone().prop_map(move |value| (type_, value));
    let type_ = prop::sample::select(vec!["O", "OU", "CN"]).prop_flat_map(attribute);
    let part = (type_, prop::option::weighted(0.2, prop::sample::select(vec!["a", "b"])));
    prop::collection::vec(part, lengths).prop_map(|parts| {
        let slash = |((type_, value), uid): &((&str, &str), Option<&str>)| {
            format!("/{type_}={value}{}", uid.map(|uid| format!("+UID={uid}")).unwrap_or_default())
        };
        let rfc = |((type_, value), uid): &((&str, &str), Option<&str>)| {
            let value = value.strip_prefix(' ').map_or((*value).to_owned(), |rest| format!("\\ {rest}"));
            format!("{type_}={value}{}", uid.map(|uid| format!("+UID={uid}")).unwrap_or_default())
        };
        (parts.iter().map(slash).collect(), parts.iter().rev().map(rfc).collect::<Vec<_>>().join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_verdict_is_that_of_openssl(
        bases in prop::collection::vec((prop::sample::select(vec!["permitted", "permitted", "excluded"]), names(0..3)), 0..4),
        dns in prop::option::of((prop::sample::select(vec!["permitted", "excluded"]), prop::sample::select(vec!["a.b", ".a.b", "b"]))),
        subjects in prop::collection::vec(names(1..4), 8),
    ) {
        let mut constraints: Vec<Constraint<'_>> = bases.iter().map(|(which, (base, _))| (*which, "dirName", base.as_str())).collect();
        constraints.extend(dns.map(|(which, base)| (which, "DNS", base)));
        // Each base, and names below it, are subjects too. Chance alone would seldom meet them.
        let below = bases.iter().filter(|(_, (_, base))| !base.is_empty()).map(|(_, (_, base))| format!("CN=x.a.b,{base}"));
        let subjects: Vec<String> = subjects.into_iter().map(|(_, subject)| subject).chain(below).collect();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        Chain::root("/CN=CA", &constraints).verdicts(&subjects);
    }
}
