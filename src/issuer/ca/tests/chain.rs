//! What else a chain must fulfil, and the sentence that an administrator reads if it does not.

use super::*;

const P256: &[&str] = &["ecparam", "-name", "prime256v1", "-genkey", "-noout"];

/// Why a CA is refused that is below a root with this key and signed with this digest.
fn refusal_below(root_key: &[&str], digest: &str) -> Option<String> {
    let root = make_ca(root_key, &[]);
    let sub = make_ca_below(&root, digest);
    let chain = sub + &String::from_utf8(root.read("ca.crt")).unwrap();
    load_sub(&root, &chain).err().map(|error| error.to_string())
}

fn load_sub(root: &Files, chain: &str) -> Result<CaIssuer, CaError> {
    CaIssuer::from_secret(Some(chain.as_bytes()), Some(&root.read("sub.key")), Timestamp::now())
}

/// The certificate of a CA with its key in `sub.key`.
fn make_ca_below(root: &Files, digest: &str) -> String {
    std::fs::write(root.path("sub.key"), openssl(P256, "")).unwrap();
    std::fs::write(root.path("sub.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    let file = |name: &str| root.path(name);
    let request = openssl(&["req", "-new", "-key", &file("sub.key"), "-subj", "/CN=sub"], "");
    let (ca, ca_key, extensions) = (file("ca.crt"), file("ca.key"), file("sub.ext"));
    let arguments = ["x509", "-req", digest, "-CA", &ca, "-CAkey", &ca_key, "-set_serial", "9", "-extfile", &extensions];
    openssl(&arguments, &request)
}

#[rstest]
#[case::rsa(&["genrsa", "2048"], "-sha512")]
#[case::p256(P256, "-sha512")]
#[case::p384(&["ecparam", "-name", "secp384r1", "-genkey", "-noout"], "-sha256")]
#[case::p521(&["ecparam", "-name", "secp521r1", "-genkey", "-noout"], "-sha512")]
fn each_kind_of_root_is_verified(#[case] root_key: &[&str], #[case] digest: &str) {
    assert_eq!(refusal_below(root_key, digest), None);
}

#[rstest]
#[case::short(&["genrsa", "1024"], "-sha256", "in tls.crt has an RSA key of 1024 bits: use one of 2048 to 8192")]
#[case::digest(&["genrsa", "2048"], "-sha1",
    "CN=sub in tls.crt is signed with sha1WithRSAEncryption: have it issued again with SHA-256, SHA-384 or SHA-512")]
#[case::ecdsa_digest(P256, "-sha1", "CN=sub in tls.crt is signed with ecdsa-with-SHA1: have it issued again")]
fn what_cannot_be_verified_is_named(#[case] root_key: &[&str], #[case] digest: &str, #[case] sentence: &str) {
    let refusal = refusal_below(root_key, digest).unwrap();
    assert!(refusal.contains(sentence), "{refusal}");
}

/// Issues a certificate below the chain in this Secret. OpenSSL verifies it with only this root and the certificates that are
/// handed out.
fn issued_and_verified(files: &Files, chain: &str, key: &[u8], root: &str) -> (CaIssuer, Issued) {
    let ca = CaIssuer::from_secret(Some(chain.as_bytes()), Some(key), Timestamp::now()).unwrap();
    let issued = ca.issue(&request(PrivateKeySpec::default())).unwrap();
    let (got, trusted) = (files.path("got.pem"), files.path("trusted.pem"));
    std::fs::write(&got, issued.pair.certificates_pem()).unwrap();
    std::fs::write(&trusted, root).unwrap();
    let only = ["-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile", &trusted, "-untrusted", &got, &got];
    openssl(&[&["verify"], only.as_slice()].concat(), "");
    (ca, issued)
}

#[rstest]
#[case::curve(&["ecparam", "-name", "secp256k1", "-genkey", "-noout"], "secp256k1")]
#[case::brainpool(&["ecparam", "-name", "brainpoolP384r1", "-genkey", "-noout"], "brainpoolP384r1")]
#[case::edwards(&["genpkey", "-algorithm", "ed448"], "id-Ed448")]
fn a_root_that_cannot_verify_here_is_left_to_those_that_trust_it(#[case] root_key: &[&str], #[case] kind: &str) {
    let root = make_ca(root_key, &[]);
    let sub = make_ca_below(&root, "-sha256");
    let root_pem = String::from_utf8(root.read("ca.crt")).unwrap();
    let (ca, issued) = issued_and_verified(&root, &(sub.clone() + &root_pem), &root.read("sub.key"), &root_pem);
    assert_eq!(issued.pair.certificates_pem().matches("BEGIN").count(), 2, "the root is not handed on");
    assert_eq!(issued.ca_certificate.unwrap(), root_pem);
    let remark = format!(
        "CN=users CA,O=Acme+OU=db,DC=example,DC=com is taken for the root by its name, for keys of the kind {kind} cannot verify here"
    );
    assert_eq!(ca.remarks(), [remark]);
    let own = refusal_of(&root_pem, &root.read("ca.key"));
    assert!(own.contains("the key's algorithm or size is not supported"), "{own}");
}

fn refusal_of(chain: &str, key: &[u8]) -> String {
    CaIssuer::from_secret(Some(chain.as_bytes()), Some(key), Timestamp::now()).unwrap_err().to_string()
}

#[test]
fn a_ca_with_the_key_but_not_the_name_of_the_issuer_is_not_the_issuer() {
    let root = make_ca(P256, &[]);
    let sub = make_ca_below(&root, "-sha256");
    let renamed = openssl(&["req", "-x509", "-key", &root.path("ca.key"), "-subj", "/CN=other", "-days", "3"], "");
    assert_eq!(
        load_sub(&root, &(sub + &renamed)).map(|_| ()),
        Err(CaError::Unconnected { subject: "CN=sub".to_owned(), left: "CN=other".to_owned() })
    );
}

#[test]
fn a_signature_algorithm_that_is_said_twice_must_be_the_same() {
    let root = make_ca(P256, &[]);
    let mut sub = read_certificates(make_ca_below(&root, "-sha256").as_bytes()).unwrap()[0].to_vec();
    // The second of the two identifiers is outside of the signed part. Here ecdsa-with-SHA256 becomes ecdsa-with-SHA384.
    let sha256 = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
    let last = sub.windows(sha256.len()).rposition(|bytes| bytes == sha256).unwrap();
    sub[last + sha256.len() - 1] = 0x03;
    let chain = pem_text("CERTIFICATE", &sub) + &String::from_utf8(root.read("ca.crt")).unwrap();
    assert!(matches!(load_sub(&root, &chain).map(|_| ()), Err(CaError::Unconnected { subject, .. }) if subject == "CN=sub"));
}

#[test]
fn more_certificates_than_a_chain_has_are_refused() {
    let files = make_ca(P256, &[]);
    let renewed = || openssl(&["req", "-x509", "-key", &files.path("ca.key"), "-subj", "/CN=users CA", "-days", "9"], "");
    let load = |count: usize| {
        let certificates: String = (0..count).map(|_| renewed()).collect();
        CaIssuer::from_secret(Some(certificates.as_bytes()), Some(&files.read("ca.key")), Timestamp::now())
    };
    assert_eq!(load(11).map(|_| ()), Err(CaError::LongChain));
    assert!(load(10).is_ok(), "a root counts as issued by itself");
}

#[rstest]
#[case::policies("certificatePolicies=critical,1.2.3.4", None)]
#[case::policy_constraints("policyConstraints=critical,requireExplicitPolicy:0", None)]
#[case::any_policy("inhibitAnyPolicy=critical,0", None)]
#[case::policy_mappings("policyMappings=critical,1.2.3:1.2.4", None)]
#[case::revocation_lists("crlDistributionPoints=critical,URI:http://ca.example.com/crl", None)]
#[case::netscape("nsCertType=critical,server", None)]
#[case::alternative_name("subjectAltName=critical,email:ca@example.com", None)]
#[case::not_revoked("noCheck=critical,ignored", None)]
#[case::unknown("1.2.3.4=critical,DER:0500", Some("1.2.3.4"))]
#[case::unknown_and_not_critical("1.2.3.4=DER:0500", None)]
#[case::information("authorityInfoAccess=critical,OCSP;URI:http://ca.example.com", Some("id-pe-authorityInfoAccess"))]
fn a_critical_extension_is_taken_if_openssl_takes_it(#[case] extension: &str, #[case] refused: Option<&str>) {
    let files = make_ca(P256, &["-days", "3", "-addext", extension]);
    let issued = load(&files).map(|ca| ca.issue(&request(PrivateKeySpec::default())).unwrap().pair.certificates_pem());
    match (issued, refused) {
        (Ok(leaf), None) => {
            std::fs::write(files.path("leaf.crt"), leaf).unwrap();
            openssl(&["verify", "-purpose", "sslclient", "-CAfile", &files.path("ca.crt"), &files.path("leaf.crt")], "");
        }
        (Err(error), Some(name)) => {
            let sentence =
                format!("in tls.crt has the critical extension {name}, which databases do not know: have it issued without");
            assert!(error.to_string().ends_with(&sentence), "{error}");
        }
        (issued, _) => panic!("{issued:?}"),
    }
}

/// A CA with the name of the root above it, which names the root's key or not.
#[rstest]
#[case::named(P256, P256, "authorityKeyIdentifier=keyid", true)]
#[case::not_named(P256, P256, "authorityKeyIdentifier=none", false)]
#[case::not_named_but_another_kind_of_key(&["genrsa", "2048"], P256, "authorityKeyIdentifier=none", true)]
fn a_ca_with_the_name_of_its_root_is_taken_if_openssl_takes_it(
    #[case] root_key: &[&str],
    #[case] key: &[&str],
    #[case] extension: &str,
    #[case] is_taken: bool,
) {
    let root = make_ca(root_key, &[]);
    std::fs::write(root.path("sub.key"), openssl(key, "")).unwrap();
    let extensions = format!("basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n{extension}\n");
    std::fs::write(root.path("sub.ext"), extensions).unwrap();
    let file = |name: &str| root.path(name);
    let subject = ["-multivalue-rdn", "-subj", "/DC=com/DC=example/O=Acme+OU=db/CN=users CA"];
    let request_pem = openssl(&[&["req", "-new", "-key", &file("sub.key")], &subject[..]].concat(), "");
    let (ca, ca_key, extensions) = (file("ca.crt"), file("ca.key"), file("sub.ext"));
    let arguments = ["x509", "-req", "-CA", &ca, "-CAkey", &ca_key, "-set_serial", "9", "-extfile", &extensions];
    let sub = openssl(&arguments, &request_pem);
    let root_pem = String::from_utf8(root.read("ca.crt")).unwrap();
    for chain in [sub.clone(), sub.clone() + &root_pem] {
        if is_taken {
            issued_and_verified(&root, &chain, &root.read("sub.key"), &root_pem);
        } else {
            let refusal = refusal_of(&chain, &root.read("sub.key"));
            assert!(refusal.contains("is issued to itself, but not signed with its own key"), "{refusal}");
        }
    }
}
