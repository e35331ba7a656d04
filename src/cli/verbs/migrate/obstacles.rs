//! What is in the way of a takeover: somebody else who writes or deletes the Secret, another CA, and what the operator would decide.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use usercert_operator_controller::secret::{NamedPassword, read};
use usercert_operator_core::{
    api::IssuerIdentity,
    certificate::{CertificatePair, Link, NameConstraints, Proof, Reached, key_id, read_certificates},
    decide::{Decision, IssuerState, IssuingMethod, Observed, SecretState, decide},
};

use crate::verbs::objects::Certificate;

/// What is in the way, as a sentence with what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It has to be changed before.
    Change(String),
    /// A new certificate follows at once, which may be accepted.
    NewCertificate(String),
}

impl Obstacle {
    pub(super) fn sentence(&self) -> &str {
        match self {
            Self::Change(sentence) | Self::NewCertificate(sentence) => sentence,
        }
    }
}

/// A tool that deletes what it no longer finds in its source, the marks by which it knows its objects, and the one that keeps them.
struct Pruner {
    tool: &'static str,
    marks: &'static [&'static str],
    keeps: (&'static str, &'static [&'static str]),
}

const PRUNERS: &[Pruner] = &[
    Pruner {
        tool: "Argo CD",
        marks: &["argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"],
        keeps: ("argocd.argoproj.io/sync-options", &["Prune=false", "Delete=false"]),
    },
    Pruner {
        tool: "Flux",
        marks: &["kustomize.toolkit.fluxcd.io/name"],
        keeps: ("kustomize.toolkit.fluxcd.io/prune", &["disabled"]),
    },
    Pruner { tool: "Helm", marks: &["meta.helm.sh/release-name"], keeps: ("helm.sh/resource-policy", &["keep"]) },
];

/// Who controls the Secret, and who deletes it when it is no longer in a source.
pub(super) fn of_metadata(metadata: &ObjectMeta) -> Vec<Obstacle> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let controllers = metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    let controllers: Vec<String> = controllers.map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
    let mut found = Vec::new();
    if !controllers.is_empty() {
        found.push(Obstacle::Change(format!(
            "the Secret {name} is controlled by {}: remove that first, and leave the Secret (--cascade=orphan)",
            controllers.join(", ")
        )));
    }
    let of = |mark: &str| {
        let marks = [&metadata.annotations, &metadata.labels];
        marks.into_iter().flatten().find_map(|marks| marks.get(mark)).map(String::as_str)
    };
    for Pruner { tool, marks, keeps: (keeps, values) } in PRUNERS {
        let kept = of(keeps).unwrap_or_default();
        let is_kept = values.iter().all(|value| kept.split(',').any(|found| found.trim() == *value));
        if marks.iter().any(|mark| of(mark).is_some()) && !is_kept {
            found.push(Obstacle::Change(format!(
                "{tool} has made the Secret {name}, and deletes it when it is no longer in the source: give the Secret the annotation {keeps}={} in the source first, have {tool} apply that, and then take the Secret out of the source",
                values.join(",")
            )));
        }
    }
    found
}

/// The chain from the CA that signed the certificate upwards, if that CA is the one of the issuer.
///
/// # Errors
/// It is another one, or nothing tells which one it is.
pub(super) fn chain_of_issuer(
    pair: &CertificatePair,
    known: &[Link],
    identity: &IssuerIdentity,
) -> Result<Vec<Link>, Obstacle> {
    let of_pair = pair.certificates().iter().cloned().filter_map(|certificate| Link::new(certificate).ok());
    let links: Vec<Link> = of_pair.chain(known.iter().cloned()).collect();
    let Some((leaf, above)) = links.split_first() else { return Err(unknown_signer()) };
    let signers: Vec<&Link> = above.iter().filter(|link| leaf.is_issued_by(link) == Ok(Proof::Verified)).collect();
    let Some(signer) = signers.first() else { return Err(unknown_signer()) };
    if !signers.iter().any(|signer| IssuerIdentity::of_ca(&key_id(&signer.certificate)) == *identity) {
        return Err(Obstacle::Change(format!(
            "the CA {} signed the certificate, and the issuer has another CA, so the operator would replace certificate and key at once: make an issuer with that CA, or create a DatabaseUserCertificate with a Secret of its own and move the programs to it",
            signer.name()
        )));
    }
    let reached = Reached::from(&[0], &links, |_| true);
    Ok(reached.order.iter().skip(1).map(|index| links[*index].clone()).collect())
}

/// The certificates of a PEM text; none if it cannot be read.
pub(super) fn links(pem: &[u8]) -> Vec<Link> {
    read_certificates(pem).unwrap_or_default().into_iter().filter_map(|certificate| Link::new(certificate).ok()).collect()
}

fn unknown_signer() -> Obstacle {
    Obstacle::Change(
        "nothing in the Secret tells which CA signed the certificate, and if it was another one than the issuer's, the operator would replace certificate and key at once: give the CA's certificate with --ca FILE".to_owned(),
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

/// What the operator would decide about the object once the Secret is its own; `None` if it would leave the certificate as it is.
pub(super) fn of_decision(object: &Certificate, secret: &Secret, mut observed: Observed, now: Timestamp) -> Option<Obstacle> {
    let mut view = read(object, secret, &NamedPassword::default()).view;
    // The takeover itself carries it out.
    view.deletion_policy = Some(object.spec.deletion_policy);
    observed.secret = SecretState::Ours(Box::new(view));
    let change = |sentence| Some(Obstacle::Change(sentence));
    match decide(object, &observed, now) {
        Decision::Keep { .. } | Decision::Repair { .. } => None,
        Decision::Await => change(
            "the operator has not looked at the present spec of the issuer: see that it runs and serves this namespace (kubectl usercert check)"
                .to_owned(),
        ),
        Decision::Wait { reason, message, .. } | Decision::Block { reason, message } => {
            change(format!("the certificate would not be renewed, {reason}: {message}"))
        }
        decision => match decision.cause() {
            Some(cause) => {
                Some(Obstacle::NewCertificate(format!("the operator would issue a new certificate at once, for {cause}")))
            }
            None => change(format!("the operator would first {} {}", decision.name(), object.name_any())),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rstest::rstest;
    use serde_json::{Value, json};

    use usercert_operator_core::{
        api::{DatabaseUserCertificate, Reason},
        decide::{Allow, IssuerFacts},
    };

    use super::*;
    use crate::verbs::migrate::prepare::tests::{prepared, secret};

    #[rstest]
    #[case::nobody(json!({}), None)]
    #[case::helm(json!({ "annotations": { "meta.helm.sh/release-name": "shop" } }), Some("Helm has made"))]
    #[case::helm_keeps(json!({ "annotations": { "meta.helm.sh/release-name": "shop", "helm.sh/resource-policy": "keep" } }), None)]
    #[case::argo(json!({ "annotations": { "argocd.argoproj.io/tracking-id": "a" } }), Some("sync-options=Prune=false,Delete=false"))]
    #[case::argo_by_label(json!({ "labels": { "argocd.argoproj.io/instance": "a" } }), Some("Argo CD has made"))]
    #[case::argo_keeps_half(json!({ "annotations": { "argocd.argoproj.io/tracking-id": "a", "argocd.argoproj.io/sync-options": "Prune=false" } }), Some("Argo CD"))]
    #[case::argo_keeps(json!({ "annotations": { "argocd.argoproj.io/tracking-id": "a", "argocd.argoproj.io/sync-options": "Prune=false, Delete=false" } }), None)]
    #[case::flux(json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "a" } }), Some("Flux has made"))]
    #[case::flux_keeps(json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "a", "kustomize.toolkit.fluxcd.io/prune": "disabled" } }), None)]
    #[case::a_controller(json!({ "ownerReferences": [{ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "old", "uid": "c", "controller": true }] }), Some("controlled by Certificate old"))]
    fn who_deletes_the_secret_is_in_the_way(#[case] metadata: Value, #[case] expected: Option<&str>) {
        let found = of_metadata(&serde_json::from_value(metadata).unwrap());
        let found: Vec<&str> = found.iter().map(Obstacle::sentence).collect();
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        assert!(expected.is_none_or(|expected| found[0].contains(expected)), "{found:?}");
    }

    #[rstest]
    #[case::it_is_kept("2026-01-10T00:00:00Z", None)]
    #[case::it_is_due("2026-03-20T00:00:00Z", Some(Obstacle::NewCertificate("the operator would issue a new certificate at once, for RenewalDue".into())))]
    fn what_the_operator_would_decide_is_in_the_way_if_the_certificate_would_not_stay(
        #[case] now: &str,
        #[case] expected: Option<Obstacle>,
    ) {
        let facts = IssuerFacts {
            method: IssuingMethod::Mint { months_until_expiration: 3 },
            allow: Allow::default(),
            username: None,
            identity: "atlas/1".into(),
            version: "1".into(),
        };
        let usable = IssuerState::Usable(Box::new(facts));
        let (secret, now) = (secret(None, |_| {}), now.parse().unwrap());
        let takeover = prepared(&secret, false).unwrap_or_else(|fault| unreachable!("{fault}"));
        let object: DatabaseUserCertificate = serde_json::from_value(takeover.object).unwrap();
        let object = Certificate::from(object);
        let found = |issuer| of_decision(&object, &secret, Observed { issuer, ..Observed::default() }, now);
        assert_eq!(found(usable), expected);
        let unusable = IssuerState::Unusable(Reason::CredentialsInvalid, "correct them".into());
        let not_renewed = "the certificate would not be renewed, CredentialsInvalid: correct them";
        assert_eq!(found(unusable).unwrap().sentence(), not_renewed);
        assert!(found(IssuerState::Unknown).unwrap().sentence().contains("has not looked at"));
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
        assert_eq!(chain_of_issuer(&pair, &known(&right), &identity(&right)).unwrap().len(), 1);
        let refused = |known: &[Link], identity: &IssuerIdentity| {
            chain_of_issuer(&pair, known, identity).unwrap_err().sentence().to_owned()
        };
        assert!(refused(&known(&right), &identity(&other)).contains("the issuer has another CA"));
        // A CA of the same name that did not sign it proves nothing.
        assert!(refused(&known(&other), &identity(&other)).contains("--ca FILE"));
        assert!(refused(&[], &identity(&right)).contains("--ca FILE"));
    }
}
