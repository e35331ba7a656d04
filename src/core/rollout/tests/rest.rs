//! When nothing is asked of the API server any more, and when it is again.

use super::*;
use crate::api::{DatabaseUserCertificate, DatabaseUserCertificateStatus, Reason};

/// The object of this rollout, as the API server has it after the last look.
fn object(rolling: &Rolling, generation: i64) -> DatabaseUserCertificate {
    let mut object: DatabaseUserCertificate = serde_json::from_value(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": { "name": "orders", "generation": generation }, "spec": { "username": "orders", "issuerRef": { "name": "ca" } },
    }))
    .unwrap();
    object.status =
        Some(DatabaseUserCertificateStatus { rollout: rolling.status.clone(), ..DatabaseUserCertificateStatus::default() });
    object
}

#[test]
fn a_spec_that_becomes_invalid_ends_the_rest_and_so_does_its_mending() {
    let mut rolling = Rolling::auto([deployment("web")]);
    rolling.step();
    rolling.becomes_ready("web");
    rolling.look();
    assert!(is_at_rest(&object(&rolling, 1), &rolling.certificate));

    let windows = |zone: &str| json!([{ "from": "22:00", "to": "04:00", "timeZone": zone }]);
    rolling.certificate.rollout.windows = serde_json::from_value(windows("Nowhere/At_All")).unwrap();
    rolling.generation = 2;
    let plan = rolling.look();
    assert_eq!(plan.reason, Reason::InvalidSpec);
    assert!(!plan.status.complete, "nobody knows whether all workloads of this spec are moved");
    assert!(!is_at_rest(&object(&rolling, 2), &rolling.certificate), "it is said again after a restart");

    rolling.found.workloads.push(deployment("added"));
    rolling.certificate.rollout.windows = None;
    rolling.generation = 3;
    assert_eq!(rolling.step(), ["added"], "the rollout goes on");
}
