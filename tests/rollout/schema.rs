//! What the API server refuses of `spec.rollout` at `kubectl apply`.

use serde_json::{Value, json};

use crate::{harness::Shop, stage::Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_cannot_be_right_is_refused_with_what_to_change() {
    let stage = Stage::open("schema").await;
    let window = |from: &str, to: &str| json!({ "auto": true, "windows": [{ "from": from, "to": to }] });
    let names = |count: usize| -> Value {
        (0..count).map(|name| json!({ "kind": "Deployment", "name": format!("w{name}") })).collect()
    };
    for (rollout, words) in [
        (json!({}), "exactly one of workloads, selector and auto"),
        (
            json!({ "auto": true, "selector": { "matchLabels": { "app": "web" } } }),
            "exactly one of workloads, selector and auto",
        ),
        (json!({ "auto": false }), "auto must be true or absent"),
        (json!({ "selector": {} }), "selector must name a label"),
        (json!({ "workloads": [] }), "workloads"),
        (json!({ "workloads": names(65) }), "64"),
        (json!({ "workloads": [{ "kind": "Deployment", "name": "No" }] }), "name"),
        (json!({ "auto": true, "maxConcurrent": 0 }), "maxConcurrent"),
        (json!({ "auto": true, "maxConcurrent": 101 }), "maxConcurrent"),
        (json!({ "auto": true, "readyTimeout": "5s" }), "readyTimeout must be 30s or more"),
        (json!({ "auto": true, "ignoreWindowsBefore": "7d" }), "ignoreWindowsBefore must be 1m or more"),
        (json!({ "auto": true, "windows": [] }), "windows"),
        (window("22:00", "22:00"), "from and to must differ"),
        (window("24:00", "04:00"), "from must be a time of the day"),
        (window("22:00", "4:00"), "to must be a time of the day"),
        (json!({ "auto": true, "windows": [{ "from": "22:00", "to": "24:00", "days": ["Monday"] }] }), "Mon"),
        (json!({ "auto": true, "windows": [{ "from": "22:00", "to": "24:00", "timeZone": "a b" }] }), "timeZone"),
    ] {
        let object = Shop::manifest("refused", "ca", &json!({ "rollout": rollout }));
        let message = stage.shop.try_apply(object).await.expect_err(words).to_string();
        assert!(message.contains(words), "{rollout} is refused without {words:?}: {message}");
        assert!(!message.contains("evaluation error") && !message.contains("no such overload"), "{message}");
    }
    for (number, rollout) in [
        json!({ "workloads": names(64) }),
        json!({ "selector": { "matchExpressions": [{ "key": "app", "operator": "Exists" }] }, "maxConcurrent": 100 }),
        json!({ "auto": true, "readyTimeout": "30s", "ignoreWindowsBefore": "48h", "windows": [{ "days": ["Fri", "Sat"], "from": "22:00", "to": "04:00", "timeZone": "America/Argentina/Buenos_Aires" }, { "from": "00:00", "to": "24:00", "timeZone": "Etc/GMT+5" }] }),
    ].into_iter().enumerate() {
        stage.shop.certificate(&format!("accepted-{number}"), "ca", json!({ "rollout": rollout })).await;
    }
}
