//! What a Secret tells stakater/Reloader, another controller that restarts the workloads of a Secret.

use crate::api::{DatabaseUserCertificateSpec, names::RELOADER_IGNORE_ANNOTATION};

/// Adds to the template of the Secret what keeps Reloader from restarting its workloads, where this operator restarts all of them: with
/// `spec.rollout.auto`. Otherwise both would restart a workload whose pods Reloader has started before the kubelet had the new Secret.
///
/// A value in `secretTemplate` wins. With `workloads` or `selector` nothing is added, because other workloads may rely on Reloader.
///
/// This is only for an operator that may carry out rollouts. Reads of the Secret, writes of it, and the digest of what the spec asks for then
/// agree, because all of them go by the template.
pub fn take_over_from_reloader(spec: &mut DatabaseUserCertificateSpec) {
    if spec.rollout.as_ref().is_some_and(|rollout| rollout.auto == Some(true)) {
        let annotations = &mut spec.secret_template.get_or_insert_default().annotations;
        annotations.entry(RELOADER_IGNORE_ANNOTATION.to_owned()).or_insert_with(|| "true".to_owned());
    }
}
