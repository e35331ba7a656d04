//! Who signed the certificate, and whether the issuer has the same signer: otherwise the operator would replace a certificate that works by
//! one that the database may refuse.

use usercert_operator_core::{
    api::IssuerIdentity,
    certificate::{CertificatePair, Link, NameConstraints, Proof, Reached, Subject, key_id, read_certificates},
    decide::{IssuerState, IssuingMethod},
};

use super::obstacles::{Consent, Obstacle};

/// The attributes that certificates of Atlas have in the name of their issuer, beside the common name.
const OF_ATLAS: [(&str, &str); 2] = [("O", "MongoDB Inc"), ("OU", "Atlas")];

/// The digits of a project's id.
const PROJECT_DIGITS: usize = 24;

/// What is in the way if the certificate is not known to be from the project of the Atlas issuer. `project`: the id of that project, if it is
/// known.
///
/// Atlas does not hand out the certificate with which the signature could be verified, so only the name tells. That the common name of Atlas's
/// signers is the id of the project was seen, and is documented nowhere. So whoever knows better may accept what is in the way.
pub(super) fn of_atlas(issued_by: &str, project: Option<&str>) -> Option<Obstacle> {
    let message = match (atlas_project(issued_by), project) {
        (Some(found), Some(project)) if found.eq_ignore_ascii_case(project) => return None,
        (Some(found), Some(project)) => format!(
            "Atlas signed the certificate, for the project {found} as it seems, and the issuer's project is {project}: name an issuer with the project of the certificate"
        ),
        (Some(found), None) => format!(
            "Atlas signed the certificate, for the project {found} as it seems, and the issuer does not tell yet which project it has: wait until it is Ready"
        ),
        (None, _) => format!(
            "{issued_by} signed the certificate, which is no name that Atlas is known to sign with. If it is a CA of your own, the renewal would bring a certificate of Atlas, which a database that trusts your CA refuses: name an issuer with that CA"
        ),
    };
    Some(Obstacle::unless(Consent::UnknownIssuer, message))
}

/// The common name of the signer, if that has the name of a signer of Atlas: it seems to be the id of the project.
fn atlas_project(issued_by: &str) -> Option<String> {
    let parts = Subject::parse(issued_by).ok()?.parts();
    let attributes: Vec<&(String, String)> = parts.iter().flatten().collect();
    let has = |wanted: (&str, &str)| attributes.iter().any(|(type_, value)| (type_.as_str(), value.as_str()) == wanted);
    let (_, project) = attributes.iter().find(|(type_, _)| type_ == "CN")?;
    let is_id = project.len() == PROJECT_DIGITS && project.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && attributes.len() == OF_ATLAS.len() + 1 && OF_ATLAS.into_iter().all(has)).then(|| project.clone())
}

/// The chain from the CA that signed the certificate upwards, if that CA is the one of the issuer. `identity`: the issuer's, if it is known.
///
/// # Errors
/// It is another one, or nothing tells which one it is.
pub(super) fn chain_of_issuer(
    pair: &CertificatePair,
    known: &[Link],
    identity: Option<&IssuerIdentity>,
) -> Result<Vec<Link>, Obstacle> {
    let of_pair = pair.certificates().iter().cloned().filter_map(|certificate| Link::new(certificate).ok());
    let links: Vec<Link> = of_pair.chain(known.iter().cloned()).collect();
    let Some((leaf, above)) = links.split_first() else { return Err(unknown_signer()) };
    let signers: Vec<&Link> = above.iter().filter(|link| leaf.is_issued_by(link) == Ok(Proof::Verified)).collect();
    let Some(signer) = signers.first() else { return Err(unknown_signer()) };
    let Some(identity) = identity else {
        return Err(Obstacle::change(format!(
            "the CA {} signed the certificate. Whether the issuer has the same CA is not known, because this program cannot read the issuer's condition Ready: use the program of the operator's release",
            signer.name()
        )));
    };
    if !signers.iter().any(|signer| IssuerIdentity::of_ca(&key_id(&signer.certificate)) == *identity) {
        return Err(Obstacle::change(format!(
            "the CA {} signed the certificate, and the issuer has another CA, so the operator would replace certificate and key at once: make an issuer with that CA, or create a DatabaseUserCertificate with a Secret of its own and move the programs to it",
            signer.name()
        )));
    }
    let reached = Reached::from(&[0], &links, |_| true);
    Ok(reached.order.iter().skip(1).map(|index| links[*index].clone()).collect())
}

/// What is in the way if the takeover changes the entry `ca.crt`, in which programs may look for the CA of the database server. `chain`: what
/// leads from the certificate to the CA of the issuer; `None` for Atlas, whose Secrets have no such entry.
pub(super) fn lost_trust(entry: &[u8], chain: Option<&[Link]>) -> Option<Obstacle> {
    if entry.is_empty() {
        return None;
    }
    let what = match chain {
        None => "the operator takes the entry ca.crt out of the Secret at once, for Secrets of Atlas have none".to_owned(),
        Some(chain) => {
            let found = links(entry);
            // The operator writes the topmost certificate that its issuer knows. That of a CA which signs itself can only be the CA.
            let is_root = |link: &Link| link.is_issued_by(link) == Ok(Proof::Verified);
            if matches!((found.as_slice(), chain), ([only], [ca]) if only == ca && is_root(ca)) {
                return None;
            }
            let names: Vec<String> = found.iter().map(Link::name).collect();
            let names = if names.is_empty() { "what cannot be read".to_owned() } else { names.join(" and ") };
            format!(
                "the entry ca.crt holds {names}, and the operator writes one certificate there, at once: the topmost one in the file of the issuer's CA"
            )
        }
    };
    Some(Obstacle::unless(
        Consent::Loss,
        format!("{what}: if programs verify the database server by that entry, let them read its CA from elsewhere first"),
    ))
}

/// The certificates of a PEM text; none if it cannot be read.
pub(super) fn links(pem: &[u8]) -> Vec<Link> {
    read_certificates(pem).unwrap_or_default().into_iter().filter_map(|certificate| Link::new(certificate).ok()).collect()
}

fn unknown_signer() -> Obstacle {
    Obstacle::change(
        "nothing in the Secret tells which CA signed the certificate, and if it was another one than the issuer's, the operator would replace certificate and key at once: give the CA's certificate with --ca FILE",
    )
}

/// The issuer, with what the CA's own certificates permit.
pub(super) fn with_name_constraints(issuer: IssuerState, chain: &[Link]) -> IssuerState {
    let IssuerState::Usable(mut facts) = issuer else { return issuer };
    let chain: Vec<_> = chain.iter().map(|link| link.certificate.clone()).collect();
    if let (IssuingMethod::Sign(ca), Ok(constraints)) = (&mut facts.method, NameConstraints::of_chain(&chain)) {
        ca.name_constraints = constraints;
    }
    IssuerState::Usable(facts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rstest::rstest;

    use super::*;

    const PROJECT: &str = "5efda6aea3f2ed2e7dd6ce05";

    #[rstest]
    #[case::of_the_project("CN=5efda6aea3f2ed2e7dd6ce05,OU=Atlas,O=MongoDB Inc", Some(PROJECT), None)]
    #[case::in_another_order("O=MongoDB Inc,OU=Atlas,CN=5EFDA6AEA3F2ED2E7DD6CE05", Some(PROJECT), None)]
    #[case::of_another_project(
        "CN=0123456789abcdef01234567,OU=Atlas,O=MongoDB Inc",
        Some(PROJECT),
        Some("for the project 0123456789abcdef01234567 as it seems, and the issuer's project is 5efda6aea3f2ed2e7dd6ce05")
    )]
    #[case::of_a_project_that_is_not_known_yet(
        "CN=5efda6aea3f2ed2e7dd6ce05,OU=Atlas,O=MongoDB Inc",
        None,
        Some("does not tell yet which project it has")
    )]
    #[case::of_a_ca("CN=CA", Some(PROJECT), Some("CN=CA signed the certificate, which is no name that Atlas"))]
    #[case::without_the_company("CN=5efda6aea3f2ed2e7dd6ce05", Some(PROJECT), Some("is no name that Atlas"))]
    #[case::with_more("CN=5efda6aea3f2ed2e7dd6ce05,OU=Atlas,O=MongoDB Inc,C=US", Some(PROJECT), Some("is no name that Atlas"))]
    #[case::with_a_name_for_an_id("CN=issuer,OU=Atlas,O=MongoDB Inc", Some(PROJECT), Some("is no name that Atlas"))]
    #[case::nobody("", Some(PROJECT), Some("is no name that Atlas"))]
    #[case::unreadable("1.2.3=#0500", None, Some("is no name that Atlas"))]
    fn a_certificate_that_is_not_of_the_issuers_project_needs_a_word(
        #[case] issued_by: &str,
        #[case] project: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let found = of_atlas(issued_by, project);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert!(found.message.contains(expected), "{found:?}");
            assert_eq!(found.consent, Some(Consent::UnknownIssuer));
        }
    }

    fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed_by(ca: &CertifiedIssuer<'static, KeyPair>) -> CertificatePair {
        let mut leaf = CertificateParams::default();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, ca).unwrap();
        CertificatePair::parse(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn only_the_ca_that_signed_the_certificate_may_be_the_one_of_the_issuer() {
        let (right, other) = (ca("users"), ca("users"));
        let known = |ca: &CertifiedIssuer<'static, KeyPair>| links(ca.pem().as_bytes());
        let identity = |ca: &CertifiedIssuer<'static, KeyPair>| IssuerIdentity::of_ca(&key_id(&known(ca)[0].certificate));
        let pair = signed_by(&right);
        assert_eq!(chain_of_issuer(&pair, &known(&right), Some(&identity(&right))).unwrap().len(), 1);
        let refused = |known: &[Link], identity: Option<&IssuerIdentity>| {
            let obstacle = chain_of_issuer(&pair, known, identity).unwrap_err();
            assert_eq!(obstacle.consent, None);
            obstacle.message
        };
        assert!(refused(&known(&right), Some(&identity(&other))).contains("the issuer has another CA"));
        // Nothing is claimed of an issuer that this program does not understand.
        let unknown = refused(&known(&right), None);
        assert!(unknown.contains("is not known") && !unknown.contains("another CA"), "{unknown}");
        // What programs may trust by ca.crt is not taken from them without a word.
        let (chain, pem) = (chain_of_issuer(&pair, &known(&right), Some(&identity(&right))).unwrap(), right.pem());
        let lost =
            |entry: &str, chain| lost_trust(entry.as_bytes(), chain).map(|obstacle| (obstacle.consent, obstacle.message));
        assert_eq!(lost(&pem, Some(&chain[..])), None);
        assert_eq!((lost("", Some(&chain[..])), lost("", None)), (None, None));
        let server = ca("servers");
        let told = |found: Option<(Option<Consent>, String)>, expected: &str| {
            let (consent, message) = found.unwrap();
            assert!(consent == Some(Consent::Loss) && message.contains(expected), "{message}");
        };
        told(
            lost(&format!("{pem}{}", server.pem()), Some(&chain[..])),
            "ca.crt holds CN=users and CN=servers, and the operator",
        );
        told(lost("-----BEGIN nothing", Some(&chain[..])), "ca.crt holds what cannot be read");
        told(lost(&pem, None), "takes the entry ca.crt out of the Secret");
        // Which of two CAs above each other the issuer's file has is not known.
        let above = [chain.clone(), known(&server)].concat();
        for entry in [&pem, &server.pem(), &format!("{pem}{}", server.pem())] {
            told(lost(entry, Some(&above[..])), "the operator writes one certificate there");
        }
        // A CA of the same name that did not sign it proves nothing.
        assert!(refused(&known(&other), Some(&identity(&other))).contains("--ca FILE"));
        assert!(refused(&[], Some(&identity(&right))).contains("--ca FILE"));
    }
}
