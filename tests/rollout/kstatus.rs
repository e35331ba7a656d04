//! Readiness beside kstatus itself, in Flux's own library: both say the same of objects of all kinds.

use std::process::Command;

use serde_json::{Value, json};
use usercert_operator_core::rollout::{Readiness, readiness};
use usercert_test_support::{command::output_with_input, control_plane::tool};

/// So many objects of each kind.
const OBJECTS: usize = 3000;

/// Numbers that are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_of(&mut self, values: &[Value]) -> Value {
        values[usize::try_from(self.below(values.len() as u64)).unwrap()].clone()
    }

    /// Mostly the number that makes an object ready.
    fn mostly(&mut self, usual: u64) -> Value {
        if self.below(5) == 0 { json!(self.below(4)) } else { json!(usual) }
    }

    fn observed(&mut self) -> Value {
        if self.below(8) == 0 { json!(3) } else { json!(4) }
    }

    fn condition(&mut self, type_: &str, reasons: &[&str]) -> Value {
        let reasons: Vec<Value> = reasons.iter().map(|reason| json!(reason)).collect();
        let status = self.one_of(&[json!("True"), json!("True"), json!("True"), json!("False"), json!("Unknown")]);
        json!({ "type": type_, "status": status, "reason": self.one_of(&reasons), "message": "m" })
    }
}

fn deployment(random: &mut Random) -> Value {
    let wanted = random.below(4);
    let conditions = [
        random.condition("Available", &["MinimumReplicasAvailable"]),
        random.condition(
            "Progressing",
            &[
                "NewReplicaSetAvailable",
                "NewReplicaSetAvailable",
                "NewReplicaSetAvailable",
                "ReplicaSetUpdated",
                "ProgressDeadlineExceeded",
            ],
        ),
    ];
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a", "generation": 4 },
        "spec": { "replicas": wanted, "progressDeadlineSeconds": random.one_of(&[json!(600), json!(i32::MAX)]) },
        "status": {
            "observedGeneration": random.observed(), "replicas": random.mostly(wanted), "updatedReplicas": random.mostly(wanted),
            "readyReplicas": random.mostly(wanted), "availableReplicas": random.mostly(wanted), "conditions": conditions,
        },
    })
}

fn stateful_set(random: &mut Random) -> Value {
    let wanted = random.below(4);
    let partition = random.below(3);
    let strategy = if random.below(2) == 0 {
        json!({ "type": "RollingUpdate" })
    } else {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": partition } })
    };
    let updated = random.mostly(wanted);
    // Its controller takes a revision over once all pods have it.
    let is_whole = updated.as_u64() == Some(wanted) && random.below(4) != 0;
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "a", "generation": 4 },
        "spec": { "replicas": wanted, "updateStrategy": strategy },
        "status": {
            "observedGeneration": random.observed(), "replicas": random.mostly(wanted), "updatedReplicas": updated,
            "readyReplicas": random.mostly(wanted), "currentReplicas": random.mostly(wanted),
            "currentRevision": if is_whole { "b" } else { "a" }, "updateRevision": "b",
        },
    })
}

fn daemon_set(random: &mut Random) -> Value {
    let wanted = random.below(4);
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "a", "generation": 4 }, "spec": {},
        "status": {
            "observedGeneration": random.observed(), "desiredNumberScheduled": wanted, "currentNumberScheduled": random.mostly(wanted),
            "updatedNumberScheduled": random.mostly(wanted), "numberAvailable": random.mostly(wanted), "numberReady": random.mostly(wanted),
        },
    })
}

fn worker(random: &mut Random) -> Value {
    let mut conditions = Vec::new();
    for type_ in ["Ready", "Stalled", "Reconciling"] {
        if random.below(3) == 0 {
            conditions.push(random.condition(type_, &["r"]));
        }
    }
    json!({
        "apiVersion": "example.com/v1", "kind": "Worker", "metadata": { "name": "a", "generation": 4 }, "spec": {},
        "status": { "observedGeneration": random.observed(), "conditions": conditions },
    })
}

/// What kstatus says of each.
fn kstatus(objects: &[Value]) -> Vec<String> {
    let check = |api_version: &str, kind: &str| json!({ "apiVersion": api_version, "kind": kind, "current": "true" });
    let mut checks: Vec<Value> = ["Deployment", "StatefulSet", "DaemonSet"].map(|kind| check("apps/v1", kind)).into();
    checks.push(check("example.com/v1", "Worker"));
    let script = "return {}";
    let question =
        json!({ "objects": objects, "healthChecks": checks, "healthLua": script, "discoveryLua": script, "actionLua": script });
    let output = output_with_input(&mut Command::new(tool("gitops").unwrap()), &question.to_string()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    answers.iter().map(|answer| answer["kstatus"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn readiness_is_what_kstatus_says_of_random_objects() {
    let mut random = Random(20_261_126);
    for make in [deployment, stateful_set, daemon_set, worker] {
        let objects: Vec<Value> = (0..OBJECTS).map(|_| make(&mut random)).collect();
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
        for (object, expected) in objects.iter().zip(kstatus(&objects)) {
            let [api_version, kind] = ["apiVersion", "kind"].map(|field| object[field].as_str().unwrap());
            let found = match readiness(api_version, kind, object) {
                Readiness::Ready => "Current",
                Readiness::InProgress(_) => "InProgress",
                Readiness::Failed(_) => "Failed",
            };
            assert_eq!(found, expected, "{object:#}");
            *seen.entry(expected).or_default() += 1;
        }
        eprintln!("{}: {seen:?}", objects[0]["kind"]);
        assert!(seen["Current"] > OBJECTS / 50 && seen["InProgress"] > OBJECTS / 50, "{seen:?}");
    }
}
