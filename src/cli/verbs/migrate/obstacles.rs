//! What is in the way of a takeover: somebody else who writes or deletes the Secret, and what the operator would decide.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use usercert_operator_controller::secret::{NamedPassword, read};
use usercert_operator_core::{
    api::{DatabaseUserCertificate, IssuerStatus, READY, Reason, condition},
    certificate::CertificateFacts,
    decide::{Decision, Observed, SecretState, decide},
    layout::{FormerPair, former_pair},
};

use crate::{arguments::Acceptance, verbs::objects::Certificate};

/// What somebody may accept, with a flag for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Consent {
    /// A new certificate follows at once.
    NewCertificate,
    /// Nothing shows that the certificate is from the issuer.
    UnknownIssuer,
    /// Something goes that programs may rely on.
    Loss,
}

impl Consent {
    /// All of them, in the order in which they are told.
    pub(super) const ALL: [Self; 3] = [Self::Loss, Self::NewCertificate, Self::UnknownIssuer];

    /// The flag that gives it.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::NewCertificate => "--accept-new-certificate",
            Self::UnknownIssuer => "--accept-unknown-issuer",
            Self::Loss => "--accept-loss",
        }
    }

    /// Whether it is given.
    pub(super) const fn is_given(self, by: Acceptance) -> bool {
        match self {
            Self::NewCertificate => by.new_certificate,
            Self::UnknownIssuer => by.unknown_issuer,
            Self::Loss => by.loss,
        }
    }
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// What it is, and what to change.
    pub(super) message: String,
    /// What has to be accepted to do it all the same; `None` if it has to be changed before.
    pub(super) consent: Option<Consent>,
}

impl Obstacle {
    /// One that has to be changed before.
    pub(super) fn change(message: impl Into<String>) -> Self {
        Self { message: message.into(), consent: None }
    }

    /// One that may be accepted.
    pub(super) fn unless(consent: Consent, message: impl Into<String>) -> Self {
        Self { message: message.into(), consent: Some(consent) }
    }

    /// Whether it was accepted.
    pub(super) fn is_accepted(&self, acceptance: Acceptance) -> bool {
        self.consent.is_some_and(|consent| consent.is_given(acceptance))
    }
}

/// How somebody has a tool keep an object that is no longer in its source.
#[derive(Clone, Copy)]
enum Keeps {
    /// By this annotation with these values.
    With(&'static str, &'static [&'static str]),
    /// By taking the tool's mark off the object.
    WithoutMark,
}

/// A tool that deletes what it no longer finds in its source, the marks by which it knows its objects, and how it keeps one.
struct Pruner {
    tool: &'static str,
    marks: &'static [&'static str],
    keeps: Keeps,
}

const ARGO_CD: Pruner = Pruner {
    tool: "Argo CD",
    marks: &["argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"],
    keeps: Keeps::With("argocd.argoproj.io/sync-options", &["Prune=false", "Delete=false"]),
};

/// The label by which Argo CD knows its objects before release 3.0, and after it where it is told to. Charts write it too, so it is a mark only
/// together with the manager below.
const ARGO_CD_LABEL: &str = "app.kubernetes.io/instance";

/// How the names begin in which Argo CD writes, as `managedFields` have them.
const ARGO_CD_MANAGER: &str = "argocd";

const PRUNERS: [Pruner; 5] = [
    ARGO_CD,
    Pruner {
        tool: "Flux",
        marks: &["kustomize.toolkit.fluxcd.io/name"],
        keeps: Keeps::With("kustomize.toolkit.fluxcd.io/prune", &["disabled"]),
    },
    Pruner { tool: "Helm", marks: &["meta.helm.sh/release-name"], keeps: Keeps::With("helm.sh/resource-policy", &["keep"]) },
    Pruner { tool: "kapp", marks: &["kapp.k14s.io/app"], keeps: Keeps::With("kapp.k14s.io/delete-strategy", &["orphan"]) },
    // KEP-3659. kro and Config Sync keep such sets too.
    Pruner {
        tool: "kubectl apply --prune, or another tool with apply sets,",
        marks: &["applyset.kubernetes.io/part-of"],
        keeps: Keeps::WithoutMark,
    },
];

/// Who controls the Secret, and who deletes it when it is no longer in a source.
pub(super) fn of_metadata(metadata: &ObjectMeta) -> Vec<Obstacle> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let controllers = metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    let controllers: Vec<String> = controllers.map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
    let mut found = Vec::new();
    if !controllers.is_empty() {
        found.push(Obstacle::change(format!(
            "the Secret {name} is controlled by {}: remove that first, and leave the Secret (--cascade=orphan)",
            controllers.join(", ")
        )));
    }
    for pruner in PRUNERS {
        let is_marked = pruner.marks.iter().any(|mark| mark_of(metadata, mark).is_some());
        if is_marked || pruner.tool == ARGO_CD.tool && is_labelled_by_argo_cd(metadata) {
            found.extend(prunes(&pruner, metadata, name));
        }
    }
    found
}

/// Nothing is in the way if the tool is told to keep the Secret.
fn prunes(pruner: &Pruner, metadata: &ObjectMeta, name: &str) -> Option<Obstacle> {
    let tool = pruner.tool;
    let to_do = match pruner.keeps {
        Keeps::With(annotation, values) => {
            let kept = mark_of(metadata, annotation).unwrap_or_default();
            if values.iter().all(|value| kept.split(',').any(|found| found.trim() == *value)) {
                return None;
            }
            let values = values.join(",");
            format!(
                "give the Secret the annotation {annotation}={values} in the source first, have {tool} apply that, and then take the Secret out of the source"
            )
        }
        Keeps::WithoutMark => {
            let marks = pruner.marks.join(", ");
            format!(
                "see that nobody applies the source meanwhile, take the Secret out of it, and take the label {marks} off the Secret"
            )
        }
    };
    Some(Obstacle::change(format!(
        "{tool} has made the Secret {name}, and deletes it when it is no longer in the source: {to_do}"
    )))
}

fn mark_of<'a>(metadata: &'a ObjectMeta, mark: &str) -> Option<&'a str> {
    let marks = [&metadata.annotations, &metadata.labels];
    marks.into_iter().flatten().find_map(|marks| marks.get(mark)).map(String::as_str)
}

fn is_labelled_by_argo_cd(metadata: &ObjectMeta) -> bool {
    let managers = metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    mark_of(metadata, ARGO_CD_LABEL).is_some() && managers.into_iter().any(|manager| manager.starts_with(ARGO_CD_MANAGER))
}

/// What to know of a label that may be a tool's, and says too little to be in the way.
pub(super) fn note_of_metadata(metadata: &ObjectMeta) -> Option<String> {
    let instance = mark_of(metadata, ARGO_CD_LABEL)?;
    let is_known = PRUNERS.iter().any(|pruner| pruner.marks.iter().any(|mark| mark_of(metadata, mark).is_some()));
    (!is_known && !is_labelled_by_argo_cd(metadata)).then(|| {
        format!(
            "the Secret has the label {ARGO_CD_LABEL}={instance}: if Argo CD wrote it, Argo CD may delete the Secret when it is no longer in the source"
        )
    })
}

/// What the operator would decide about the object once the Secret is its own; `None` if it would leave the certificate as it is.
pub(super) fn of_decision(object: &Certificate, secret: &Secret, mut observed: Observed, now: Timestamp) -> Option<Obstacle> {
    let mut view = read(object, secret, &NamedPassword::default()).view;
    // The takeover itself carries it out.
    view.deletion_policy = Some(object.spec.deletion_policy);
    let certificate = view.certificate.clone().ok();
    observed.secret = SecretState::Ours(Box::new(view));
    let change = |sentence: String| Some(Obstacle::change(sentence));
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
            Some(cause) if certificate.is_some_and(|replaced| keeps_former_pair(object, cause, &replaced, now)) => Some(Obstacle::unless(
                Consent::NewCertificate,
                format!("the operator would issue a new certificate at once, for {cause}"),
            )),
            Some(cause) => change(format!(
                "the operator would issue a new certificate at once, for {cause}, and not keep the former one: create a DatabaseUserCertificate with a Secret of its own and move the programs to it"
            )),
            None => change(format!("the operator would first {} {}", decision.name(), object.name_any())),
        },
    }
}

/// An issuer whose credentials Atlas refuses. The operator tries them again, and a renewal fails as long as they are refused.
pub(super) fn of_credentials(issuer: Option<&IssuerStatus>) -> Option<Obstacle> {
    let ready = condition(&issuer?.conditions, READY).filter(|ready| ready.status != "True")?;
    let reason = Reason::from_name(&ready.reason).filter(|reason| reason.is_about_credentials())?;
    Some(Obstacle::change(format!("the certificate would not be renewed, {reason}: {}", ready.message)))
}

/// Whether the operator keeps the pair that it replaces for this cause, if `keepPrevious` asks for that.
fn keeps_former_pair(object: &Certificate, cause: Reason, replaced: &CertificateFacts, now: Timestamp) -> bool {
    let mut asked = DatabaseUserCertificate::clone(object);
    asked.spec.keep_previous = true;
    let new = CertificateFacts { serial_number: "00".into(), ..replaced.clone() };
    former_pair(&asked, cause, replaced, &new, now) == FormerPair::Replaced
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use usercert_operator_core::decide::{Allow, IssuerFacts, IssuerState, IssuingMethod};

    use super::*;
    use crate::verbs::migrate::prepare::{
        self,
        tests::{prepared, secret},
    };

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
    #[case::kapp(json!({ "labels": { "kapp.k14s.io/app": "1" } }), Some("kapp.k14s.io/delete-strategy=orphan"))]
    #[case::kapp_keeps(json!({ "labels": { "kapp.k14s.io/app": "1" }, "annotations": { "kapp.k14s.io/delete-strategy": "orphan" } }), None)]
    #[case::an_apply_set(json!({ "labels": { "applyset.kubernetes.io/part-of": "a" } }), Some("take the label applyset.kubernetes.io/part-of off"))]
    #[case::argo_before_3_0(json!({ "labels": { "app.kubernetes.io/instance": "a" }, "managedFields": [{ "manager": "argocd-controller" }] }), Some("Argo CD has made"))]
    #[case::argo_before_3_0_keeps(json!({ "labels": { "app.kubernetes.io/instance": "a" }, "annotations": { "argocd.argoproj.io/sync-options": "Prune=false,Delete=false" }, "managedFields": [{ "manager": "argocd-controller" }] }), None)]
    #[case::argo_once(json!({ "labels": { "app.kubernetes.io/instance": "a", "argocd.argoproj.io/instance": "a" }, "managedFields": [{ "manager": "argocd-controller" }] }), Some("Argo CD has made"))]
    #[case::the_label_of_a_chart(json!({ "labels": { "app.kubernetes.io/instance": "a" }, "managedFields": [{ "manager": "kubectl" }] }), None)]
    #[case::a_controller(json!({ "ownerReferences": [{ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "old", "uid": "c", "controller": true }] }), Some("controlled by Certificate old"))]
    fn who_deletes_the_secret_is_in_the_way(#[case] metadata: Value, #[case] expected: Option<&str>) {
        let found = of_metadata(&serde_json::from_value(metadata).unwrap());
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        assert!(expected.is_none_or(|expected| found[0].message.contains(expected)), "{found:?}");
        assert!(found.iter().all(|found| found.consent.is_none()), "a Secret that is deleted is nothing to accept: {found:?}");
    }

    #[rstest]
    #[case::of_a_chart(json!({ "labels": { "app.kubernetes.io/instance": "a" } }), true)]
    #[case::of_helm(json!({ "labels": { "app.kubernetes.io/instance": "a" }, "annotations": { "meta.helm.sh/release-name": "a" } }), false)]
    #[case::of_argo(json!({ "labels": { "app.kubernetes.io/instance": "a" }, "managedFields": [{ "manager": "argocd-controller" }] }), false)]
    #[case::nobodys(json!({ "labels": { "app": "a" } }), false)]
    fn a_label_that_may_be_argo_cds_is_told(#[case] metadata: Value, #[case] is_told: bool) {
        let found = note_of_metadata(&serde_json::from_value(metadata).unwrap());
        assert_eq!(found.is_some_and(|found| found.contains("if Argo CD wrote it")), is_told);
    }

    #[test]
    fn a_new_certificate_may_be_accepted_only_where_the_former_pair_is_kept() {
        let secret = secret(None, |_| {});
        let takeover = prepared(&secret, true).unwrap_or_else(|fault| unreachable!("{fault}"));
        let object: DatabaseUserCertificate = serde_json::from_value(takeover.object).unwrap();
        let (object, facts) = (Certificate::from(object), takeover.facts);
        let keeps = |cause| keeps_former_pair(&object, cause, &facts, prepare::tests::now());
        assert!(keeps(Reason::RenewalDue) && keeps(Reason::PrivateKeyChanged));
        assert!(!keeps(Reason::ChainBroken) && !keeps(Reason::PairUnusable));
    }

    #[rstest]
    #[case::it_is_kept("2026-01-10T00:00:00Z", None)]
    #[case::it_is_due(
        "2026-03-20T00:00:00Z",
        Some(Obstacle::unless(Consent::NewCertificate, "the operator would issue a new certificate at once, for RenewalDue"))
    )]
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
        assert_eq!(found(unusable), Some(Obstacle::change(not_renewed)));
        assert!(found(IssuerState::Unknown).unwrap().message.contains("has not looked at"));
    }

    #[rstest]
    #[case::refused("False", "AtlasUnauthorized", true)]
    #[case::not_on_the_access_list("False", "AtlasAccessListDenied", true)]
    #[case::accepted("True", "IssuerReady", false)]
    #[case::told_by_the_decision("False", "CredentialsInvalid", false)]
    fn credentials_that_atlas_refuses_are_in_the_way(#[case] status: &str, #[case] reason: &str, #[case] expected: bool) {
        let issuer: IssuerStatus = serde_json::from_value(json!({ "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] }))
        .unwrap();
        let told = format!("the certificate would not be renewed, {reason}: m");
        assert_eq!(of_credentials(Some(&issuer)), expected.then(|| Obstacle::change(told)));
        assert_eq!(of_credentials(None), None);
    }
}
