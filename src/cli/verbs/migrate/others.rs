//! Who else deletes or writes the Secret: its owners, and tools that leave marks on it.
//!
//! Each mark was looked up in the code of the tool that leaves it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::obstacles::{Consent, Obstacle};

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

/// A tool that writes its own content into its Secrets again or deletes them, the marks by which such a Secret is known, and how somebody has the
/// tool let go of one.
struct Writer {
    tool: &'static str,
    /// How the names begin in which it writes, as `managedFields` have them. They stay there after it has let go.
    managers: &'static [&'static str],
    /// Annotations and labels with their values; `None` stands for each value. Somebody can take them off.
    marks: &'static [(&'static str, Option<&'static str>)],
    does: &'static str,
    to_do: &'static str,
}

const WRITERS: [Writer; 7] = [
    Writer {
        tool: "Terraform or OpenTofu",
        // Where a request names no manager, the API server takes the beginning of its User-Agent. That was "HashiCorp/1.0 Terraform/…" once.
        managers: &["Terraform", "HashiCorp"],
        marks: &[],
        does: "deletes the Secret when its resource is destroyed, and writes the former content back at an apply",
        to_do: "take the resource out of the state without destroying it, with a removed block that has destroy = false in the place of the resource, or with terraform state rm",
    },
    Writer {
        tool: "Pulumi",
        managers: &["pulumi-"],
        marks: &[("pulumi.com/autonamed", None), ("app.kubernetes.io/managed-by", Some("pulumi"))],
        does: "deletes the Secret when its resource is out of the program, and may write the former content back",
        to_do: "set retainOnDelete on the resource and run pulumi up, and then take the resource out of the program. Or take it out of the program and, with pulumi state delete, out of the state",
    },
    Writer {
        tool: "External Secrets Operator",
        managers: &["externalsecrets.external-secrets.io/"],
        marks: &[
            ("reconcile.external-secrets.io/managed", Some("true")),
            ("reconcile.external-secrets.io/created-by", None),
            ("reconcile.external-secrets.io/data-hash", None),
        ],
        does: "writes the content of its provider back, or deletes the Secret",
        to_do: "set creationPolicy: Orphan and deletionPolicy: Retain below spec.target of its ExternalSecret, and then delete the ExternalSecret with --cascade=orphan",
    },
    Writer {
        tool: "Reflector",
        managers: &[],
        marks: &[("reflector.v1.k8s.emberstack.com/reflects", None)],
        does: "writes the content of another Secret back, and may delete its copies with that one",
        to_do: "stop Reflector first, for it remembers its copies",
    },
    Writer {
        tool: "kubernetes-replicator",
        managers: &[],
        marks: &[
            ("replicator.v1.mittwald.de/replicate-from", None),
            ("replicator.v1.mittwald.de/replicated-from-version", None),
            ("replicator.v1.mittwald.de/replicated-keys", None),
        ],
        does: "writes the content of another Secret back, and empties or deletes its copies with that one",
        to_do: "stop kubernetes-replicator first, for it remembers its copies, and take this namespace out of replicator.v1.mittwald.de/replicate-to and replicate-to-matching of the other Secret, if it is in there",
    },
    Writer {
        tool: "Sealed Secrets",
        managers: &[],
        marks: &[("sealedsecrets.bitnami.com/managed", Some("true")), ("sealedsecrets.bitnami.com/patch", Some("true"))],
        does: "writes the content of the SealedSecret of this name back",
        to_do: "see that nobody changes the SealedSecret meanwhile",
    },
    Writer {
        tool: "Vault Secrets Operator",
        managers: &[],
        marks: &[("secrets.hashicorp.com/vso-ownerRefUID", None)],
        does: "writes the content of Vault back, and deletes the Secret with the object that asks for it",
        to_do: "delete that object with --cascade=orphan, a VaultPKISecret after it got revoke: false and clear: false",
    },
];

/// Who owns the Secret, who deletes it when it is no longer in a source, and who writes something else into it.
pub(super) fn of_metadata(metadata: &ObjectMeta) -> Vec<Obstacle> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let pruners = PRUNERS.iter().filter(|pruner| has_made(pruner, metadata));
    let pruners = pruners.filter_map(|pruner| prunes(pruner, metadata, name));
    let writers = WRITERS.iter().filter_map(|writer| writes(writer, metadata, name));
    of_owners(metadata, name).into_iter().chain(pruners).chain(writers).collect()
}

/// The garbage collector deletes an object with the last of its owners, whether a controller is among them or not. In a foreground deletion
/// (`blockOwnerDeletion` says whether the owner waits for it) it does so while the owner is still there. So each reference is in the way.
fn of_owners(metadata: &ObjectMeta, name: &str) -> Vec<Obstacle> {
    let named = |is_controller: bool| {
        let is_wanted = |owner: &&OwnerReference| (owner.controller == Some(true)) == is_controller;
        let owners = metadata.owner_references.iter().flatten().filter(is_wanted);
        let owners: Vec<String> = owners.map(|owner| format!("{} {}", owner.kind, owner.name)).collect();
        Some(owners.join(", ")).filter(|owners| !owners.is_empty())
    };
    let controlled = named(true).map(|owners| {
        format!("the Secret {name} is controlled by {owners}: remove that first, and leave the Secret (--cascade=orphan)")
    });
    let owned = named(false).map(|owners| {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        format!(
            r#"the Secret {name} is owned by {owners}, and the garbage collector deletes it with the last of its owners: take ownerReferences off the Secret first, which deletes nothing, with kubectl patch secret {name} -n {namespace} --type=json -p '[{{"op":"remove","path":"/metadata/ownerReferences"}}]'"#
        )
    });
    controlled.into_iter().chain(owned).map(Obstacle::change).collect()
}

fn has_made(pruner: &Pruner, metadata: &ObjectMeta) -> bool {
    let is_marked = pruner.marks.iter().any(|mark| mark_of(metadata, mark).is_some());
    is_marked || pruner.tool == ARGO_CD.tool && is_labelled_by_argo_cd(metadata)
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

/// Whether a tool has let go cannot be seen where it is in `managedFields`, so there somebody may say so. Other marks have to be taken off.
fn writes(writer: &Writer, metadata: &ObjectMeta, name: &str) -> Option<Obstacle> {
    let Writer { tool, does, to_do, .. } = writer;
    let message = format!("{tool} has written the Secret {name}. It {does}: {to_do}");
    if managers(metadata).any(|manager| is_of(writer, manager)) {
        return Some(Obstacle::unless(
            Consent::FormerWriter,
            format!("{message}. The managedFields of the Secret name it after that too"),
        ));
    }
    let is_there = |(mark, value): &&(&str, Option<&str>)| {
        mark_of(metadata, mark).is_some_and(|found| value.is_none_or(|value| value == found))
    };
    let marks: Vec<&str> = writer.marks.iter().filter(is_there).map(|(mark, _)| *mark).collect();
    (!marks.is_empty()).then(|| Obstacle::change(format!("{message}. Then take {} off the Secret", marks.join(" and "))))
}

fn is_of(writer: &Writer, manager: &str) -> bool {
    writer.managers.iter().any(|beginning| manager.starts_with(beginning))
}

/// Those who wrote the Secret, and of whom nothing is known.
pub(super) fn unknown_managers(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    managers(metadata).filter(|manager| !WRITERS.iter().any(|writer| is_of(writer, manager)))
}

fn managers(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref())
}

fn mark_of<'a>(metadata: &'a ObjectMeta, mark: &str) -> Option<&'a str> {
    let marks = [&metadata.annotations, &metadata.labels];
    marks.into_iter().flatten().find_map(|marks| marks.get(mark)).map(String::as_str)
}

fn is_labelled_by_argo_cd(metadata: &ObjectMeta) -> bool {
    mark_of(metadata, ARGO_CD_LABEL).is_some() && managers(metadata).any(|manager| manager.starts_with(ARGO_CD_MANAGER))
}

/// What to know of a label that may be a tool's, and says too little to be in the way.
pub(super) fn note_of_metadata(metadata: &ObjectMeta) -> Option<String> {
    let instance = mark_of(metadata, ARGO_CD_LABEL)?;
    (!PRUNERS.iter().any(|pruner| has_made(pruner, metadata))).then(|| {
        format!(
            "the Secret has the label {ARGO_CD_LABEL}={instance}: if Argo CD wrote it, Argo CD may delete the Secret when it is no longer in the source"
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn found(metadata: Value) -> Vec<Obstacle> {
        of_metadata(&serde_json::from_value(metadata).unwrap())
    }

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
        let found = found(metadata);
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

    #[rstest]
    #[case::a_cron_job(json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "orders", "uid": "c" }]), &["is owned by CronJob orders, and"])]
    #[case::a_job_that_is_no_controller(
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "orders-1", "uid": "j", "controller": false, "blockOwnerDeletion": true }]),
        &["is owned by Job orders-1, and"]
    )]
    #[case::two(
        json!([
            { "apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "a" },
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "b" },
        ]),
        &["is owned by Job a, ConfigMap b, and"]
    )]
    #[case::one_beside_a_controller(
        json!([
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "b" },
            { "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "c", "uid": "c", "controller": true },
        ]),
        &["is controlled by Certificate c:", "is owned by ConfigMap b, and"]
    )]
    fn each_owner_is_in_the_way_for_the_secret_goes_with_the_last_one(#[case] owners: Value, #[case] expected: &[&str]) {
        let found = found(json!({ "name": "old", "namespace": "shop", "ownerReferences": owners }));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.message.contains(expected) && found.consent.is_none(), "{found:?}");
        }
        let command =
            r#"kubectl patch secret old -n shop --type=json -p '[{"op":"remove","path":"/metadata/ownerReferences"}]'"#;
        assert!(found.last().unwrap().message.ends_with(command), "{found:?}");
    }

    fn by(manager: &str) -> Value {
        json!({ "managedFields": [{ "manager": manager, "operation": "Update" }] })
    }

    #[rstest]
    #[case::terraform(by("Terraform"), "a removed block that has destroy = false")]
    #[case::an_older_terraform(by("HashiCorp"), "Terraform or OpenTofu has written")]
    #[case::pulumi_on_the_client(by("pulumi-kubernetes"), "pulumi state delete")]
    #[case::pulumi_on_the_server(by("pulumi-kubernetes-31df3088"), "retainOnDelete")]
    #[case::external_secrets(by("externalsecrets.external-secrets.io/orders"), "creationPolicy: Orphan")]
    fn a_tool_that_stays_in_the_managed_fields_may_be_said_to_have_let_go(#[case] metadata: Value, #[case] expected: &str) {
        let found = found(metadata);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].consent, Some(Consent::FormerWriter));
        assert!(found[0].message.contains(expected) && found[0].message.contains("managedFields"), "{found:?}");
    }

    #[rstest]
    #[case::reflector("annotations", "reflector.v1.k8s.emberstack.com/reflects", "other/orders", "stop Reflector first")]
    #[case::replicator_that_pulls(
        "annotations",
        "replicator.v1.mittwald.de/replicate-from",
        "other/orders",
        "replicator first"
    )]
    #[case::replicator_that_pushes("annotations", "replicator.v1.mittwald.de/replicated-from-version", "7", "replicate-to")]
    #[case::sealed("annotations", "sealedsecrets.bitnami.com/managed", "true", "SealedSecret")]
    #[case::sealed_in_part("annotations", "sealedsecrets.bitnami.com/patch", "true", "SealedSecret")]
    #[case::vault("labels", "secrets.hashicorp.com/vso-ownerRefUID", "u", "revoke: false and clear: false")]
    #[case::external_secrets("labels", "reconcile.external-secrets.io/managed", "true", "creationPolicy: Orphan")]
    #[case::pulumi("labels", "app.kubernetes.io/managed-by", "pulumi", "pulumi state delete")]
    fn a_mark_that_can_be_taken_off_has_to_be(
        #[case] field: &str,
        #[case] mark: &str,
        #[case] value: &str,
        #[case] expected: &str,
    ) {
        let found = found(json!({ field: { mark: value } }));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].consent.is_none() && found[0].message.contains(expected), "{found:?}");
        assert!(found[0].message.ends_with(&format!("Then take {mark} off the Secret")), "{found:?}");
    }

    #[rstest]
    #[case::kubectl(by("kubectl-client-side-apply"))]
    #[case::a_secret_that_reflector_copies(json!({ "annotations": { "reflector.v1.k8s.emberstack.com/reflection-allowed": "true" } }))]
    #[case::a_secret_that_replicator_copies(json!({ "annotations": { "replicator.v1.mittwald.de/replicate-to": "a" } }))]
    #[case::not_managed(json!({ "annotations": { "sealedsecrets.bitnami.com/managed": "false" } }))]
    #[case::managed_by_somebody(json!({ "labels": { "app.kubernetes.io/managed-by": "me" } }))]
    fn who_leaves_the_secret_alone_is_not_in_the_way(#[case] metadata: Value) {
        assert_eq!(found(metadata), []);
    }
}
