//! The cases.

use crate::authority::{Authority, P256};

/// `permitted;dirName:O=Acme`, encoded.
const PERMITTED: &str = "nameConstraints=critical,DER:3017a0153013a411300f310d300b060355040a0c0441636d65";

/// What must come of a case.
#[derive(Clone, Copy)]
pub enum Expected {
    /// A certificate that OpenSSL verifies.
    Issued,
    /// None, and the sentence has these words.
    Refused(&'static str),
}

/// A CA Secret, and what is asked for.
pub struct Case {
    pub name: &'static str,
    /// `tls.crt` of the CA.
    pub file: String,
    /// The name of the certificate and of the key that sign.
    pub ca: (&'static str, &'static str),
    /// What databases trust.
    pub root: String,
    /// The subject as an RFC 4514 string, and for OpenSSL.
    pub subject: (&'static str, &'static str),
    pub expected: Expected,
}

/// Three CAs above each other, and what else there is of them.
struct Plain {
    root: String,
    middle: String,
    issuing: String,
}

impl Plain {
    fn new(authority: &Authority) -> Self {
        let root = authority.ca("root", "root", "/O=Acme/CN=Root", None, &[]);
        let middle = authority.ca("middle", "middle", "/O=Acme/CN=Middle", Some(("root", "root")), &[]);
        let issuing = authority.ca("issuing", "issuing", "/O=Acme/CN=Issuing", Some(("middle", "middle")), &[]);
        Self { root, middle, issuing }
    }

    fn case(&self, name: &'static str, file: String, expected: Expected) -> Case {
        Case {
            name,
            file,
            ca: ("issuing", "issuing"),
            root: self.root.clone(),
            subject: ("CN=reports,O=Acme", "/O=Acme/CN=reports"),
            expected,
        }
    }
}

/// All of them. Certificates are made in the authority's folder.
pub fn cases(authority: &Authority) -> Vec<Case> {
    let plain = Plain::new(authority);
    [shapes(&plain), orders(authority, &plain), kinds(authority, &plain), limits(authority, &plain)]
        .into_iter()
        .flatten()
        .collect()
}

/// How the PEM is written down.
fn shapes(plain: &Plain) -> Vec<Case> {
    use Expected::{Issued, Refused};
    let Plain { root, middle, issuing } = plain;
    let glued = |between: &str| [issuing.trim_end(), middle.trim_end(), root].join(between);
    let whole = format!("{issuing}{middle}{root}");
    let case = |name, file: String, expected| plain.case(name, file, expected);
    vec![
        case("plain", whole.clone(), Issued),
        case("glued-middle", glued(""), Issued),
        case("space-between-blocks", glued(" "), Issued),
        case("tab-and-blank-lines-between-blocks", glued("\t\n\n \n"), Issued),
        case("carriage-returns", whole.replace('\n', "\r\n"), Issued),
        case("lone-carriage-returns", whole.replace('\n', "\r"), Issued),
        case("indented", whole.replace('\n', "\n    "), Issued),
        case("folded-into-one-line", whole.replace('\n', " "), Issued),
        case("byte-order-mark-first", format!("\u{feff}{whole}"), Issued),
        case("byte-order-mark-between", format!("{issuing}\u{feff}{middle}{root}"), Issued),
        case("bag-attributes", format!("Bag Attributes\n    localKeyID: 54 69\nsubject=O = Acme\n\n{whole}"), Issued),
        case("comment", format!("# the CA that signs\n{whole}"), Issued),
        case("older-label", whole.replace("CERTIFICATE--", "X509 CERTIFICATE--"), Issued),
        case("literal-line-breaks", whole.replace('\n', "\\n"), Refused("line 1 has the two characters \\n")),
        case(
            "boundary-damaged",
            whole.replacen("-----BEGIN", "----BEGIN", 2).replacen("----BEGIN", "-----BEGIN", 1),
            Refused("looks like a boundary and is damaged"),
        ),
        case("quoted", whole.replace("-----BEGIN", "> -----BEGIN"), Refused("line 1 has the character '>'")),
        case("cut-short", whole[..whole.len() - 100].to_owned(), Refused("has no end")),
        case(
            "beginning-lost",
            format!("{issuing}{}", middle.lines().skip(1).collect::<Vec<_>>().join("\n")),
            Refused("looks like a part of a block"),
        ),
        case(
            "trusted-label",
            format!("{issuing}{}{root}", middle.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            Refused("begins a TRUSTED CERTIFICATE"),
        ),
        case(
            "request-in-its-place",
            format!("{issuing}{}{root}", middle.replace("CERTIFICATE", "CERTIFICATE REQUEST")),
            Refused("begins a CERTIFICATE REQUEST"),
        ),
        case("label-misspelt", whole.replacen("CERTIFICATE", "CERTIFCATE", 1), Refused("label is none that is known")),
        case("utf-16", whole.chars().flat_map(|character| [character, '\0']).collect(), Refused("line 1 has a NUL byte")),
    ]
}

/// Which certificates there are, and in which order.
fn orders(authority: &Authority, plain: &Plain) -> Vec<Case> {
    use Expected::{Issued, Refused};
    let Plain { root, middle, issuing } = plain;
    let other = authority.ca("other", "other", "/O=Other/CN=Root", None, &[]);
    let cross = authority.ca("cross", "root", "/O=Acme/CN=Root", Some(("other", "other")), &[]);
    let expired = authority.by_request(
        "expired",
        "root",
        "/O=Acme/CN=Root",
        "expired",
        "-1",
        Some("basicConstraints=critical,CA:TRUE\n"),
    );
    // OpenSSL compares names without regard to letters, spaces and string types.
    let shouted = authority.ca("shouted", "root", "/O=ACME/CN=  ROOT", None, &[]);
    let case = |name, file: String, expected| plain.case(name, file, expected);
    let trusting_other = |name, file: String| Case { root: other.clone(), ..plain.case(name, file, Issued) };
    vec![
        Case { root: shouted.clone(), ..case("root-name-in-other-letters", format!("{issuing}{middle}{shouted}"), Issued) },
        case("no-root", format!("{issuing}{middle}"), Issued),
        case("duplicate-root", format!("{issuing}{middle}{root}{root}"), Issued),
        case("each-twice", format!("{issuing}{issuing}{middle}{root}{middle}{root}"), Issued),
        case("root-first", format!("{root}{middle}{issuing}"), Issued),
        case("middle-last", format!("{issuing}{root}{middle}"), Issued),
        case("cross-signed", format!("{issuing}{middle}{root}{cross}{other}"), Issued),
        trusting_other("cross-signed-for-the-other-root", format!("{issuing}{middle}{root}{cross}{other}")),
        trusting_other("cross-signed-without-roots", format!("{issuing}{middle}{cross}")),
        case("expired-root-and-its-successor", format!("{issuing}{middle}{expired}{root}"), Issued),
        case("expired-root", format!("{issuing}{middle}{expired}"), Refused("CN=Root,O=Acme in tls.crt expired at")),
        case(
            "middle-missing",
            format!("{issuing}{root}"),
            Refused("add the certificate that issued CN=Issuing,O=Acme, or remove CN=Root,O=Acme"),
        ),
        case("stranger", format!("{issuing}{middle}{root}{other}"), Issued),
    ]
}

/// CAs that are built otherwise than most.
fn kinds(authority: &Authority, plain: &Plain) -> Vec<Case> {
    use Expected::Issued;
    let mut cases = Vec::new();
    let mut below = |name, (parent, key): (&str, &str), root: &str, subject: &str, own: &'static str, more: &[&str]| {
        let issuing = authority.ca(own, own, subject, Some((parent, key)), more);
        let file = if root == plain.root { issuing.clone() } else { format!("{issuing}{root}") };
        cases.push(Case { file, ca: (own, own), root: root.to_owned(), ..plain.case(name, String::new(), Issued) });
    };
    let own_root = |name: &'static str, kind: &[&str], more: &[&str]| {
        authority.key(name, kind);
        authority.ca(name, name, "/O=Acme/CN=Kind", None, more)
    };
    below("self-issued", ("root", "root"), &plain.root, "/O=Acme/CN=Root", "self-issued", &[]);
    let policies =
        ["-addext", "certificatePolicies=critical,1.2.3.4", "-addext", "policyConstraints=critical,requireExplicitPolicy:9"];
    below("critical-policies", ("root", "root"), &plain.root, "/O=Acme/CN=Issuing", "policies", &policies);
    let serial = format!("0x{}", "1a".repeat(36));
    below("serial-36-octets", ("root", "root"), &plain.root, "/O=Acme/CN=Issuing", "serial", &["-set_serial", &serial]);
    below("serial-negative", ("root", "root"), &plain.root, "/O=Acme/CN=Issuing", "negative", &["-set_serial", "-5"]);
    let brainpool = own_root("brainpool", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"], &[]);
    below("brainpool-root", ("brainpool", "brainpool"), &brainpool, "/O=Acme/CN=Issuing", "below-brainpool", &[]);
    let edwards = own_root("edwards", &["-algorithm", "ED448"], &[]);
    below("ed448-root", ("edwards", "edwards"), &edwards, "/O=Acme/CN=Issuing", "below-edwards", &[]);
    let sha1 = own_root("sha1", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], &["-sha1"]);
    below("root-signed-with-sha-1", ("sha1", "sha1"), &sha1, "/O=Acme/CN=Issuing", "below-sha1", &[]);
    let pss = own_root("pss", &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], &[]);
    below("rsa-pss-root", ("pss", "pss"), &pss, "/O=Acme/CN=Issuing", "below-pss", &[]);
    below(
        "name-inside-constraints",
        ("root", "root"),
        &plain.root,
        "/O=Acme/CN=Issuing",
        "constrained",
        &["-addext", PERMITTED],
    );
    let first = authority.by_request("first", "first", "/O=Acme/CN=First", "first", "30", None);
    let is_ca = Some("basicConstraints=critical,CA:TRUE\n");
    let issuing = authority.by_request("below-first", "below-first", "/O=Acme/CN=Issuing", "first", "30", is_ca);
    let ca = ("below-first", "below-first");
    cases.push(Case { file: issuing + &first, ca, root: first, ..plain.case("version-1-root", String::new(), Issued) });
    cases
}

/// What databases refuse, or what is refused here.
fn limits(authority: &Authority, plain: &Plain) -> Vec<Case> {
    use Expected::Refused;
    let mut cases = Vec::new();
    let mut limited = |name, own: &'static str, more: &[&str], words| {
        let file = authority.ca(own, own, "/O=Acme/CN=Issuing", Some(("root", "root")), more);
        cases.push(Case { file, ca: (own, own), ..plain.case(name, String::new(), Refused(words)) });
    };
    limited(
        "for-servers",
        "servers",
        &["-addext", "extendedKeyUsage=serverAuth"],
        "has an extendedKeyUsage without clientAuth",
    );
    limited("unknown-critical", "critical", &["-addext", "1.2.3.4=critical,DER:0500"], "has the critical extension 1.2.3.4");
    limited("no-ca", "no-ca", &["-addext", "basicConstraints=critical,CA:FALSE"], "is not a CA");
    let constrained = authority.ca("outside", "outside", "/O=Acme/CN=Issuing", Some(("root", "root")), &["-addext", PERMITTED]);
    cases.push(Case {
        file: constrained,
        ca: ("outside", "outside"),
        subject: ("CN=reports,O=Other", "/O=Other/CN=reports"),
        ..plain.case("name-outside-constraints", String::new(), Refused("permit only subjects below \"O=Acme\""))
    });
    let usage = Some("keyUsage=critical,keyCertSign\n");
    let alone = authority.by_request("usage", "usage", "/O=Acme/CN=Issuing", "root", "30", usage);
    cases.push(Case {
        file: alone,
        ca: ("usage", "usage"),
        ..plain.case("key-usage-alone", String::new(), Refused("is not a CA"))
    });
    authority.key("curve", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"]);
    let curve = authority.ca("curve", "curve", "/O=Acme/CN=Curve", Some(("root", "root")), &[]);
    authority.key("under", P256);
    let under = authority.ca("under", "under", "/O=Acme/CN=Issuing", Some(("curve", "curve")), &[]);
    cases.push(Case {
        file: format!("{under}{curve}"),
        ca: ("under", "under"),
        ..plain.case(
            "brainpool-between",
            String::new(),
            Refused("CN=Curve,O=Acme in tls.crt has a key of the kind brainpoolP256r1"),
        )
    });
    cases
}
