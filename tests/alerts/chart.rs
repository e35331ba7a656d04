//! What the chart makes of the rule file and of the dashboard.

use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use usercert_test_support::control_plane::{repository, tool};

/// A rule, as Prometheus reads it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Rule {
    pub alert: String,
    pub expr: String,
    #[serde(rename = "for")]
    pub pending: Option<String>,
    pub keep_firing_for: Option<String>,
    pub labels: std::collections::BTreeMap<String, String>,
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The text of a file of the chart.
pub fn file(name: &str) -> String {
    std::fs::read_to_string(repository().join("charts/usercert-operator/files").join(name)).unwrap()
}

pub fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

/// The rules of the file that promtool and Prometheus read.
pub fn rules() -> Vec<Rule> {
    rules_of(&yaml(&file("alerts.yaml")))
}

/// The rules in `groups`.
pub fn rules_of(groups: &Value) -> Vec<Rule> {
    let groups = groups["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| serde_json::from_value(rule.clone()).unwrap())
        .collect()
}

/// A template of the chart with these values, or what Helm says against it.
pub fn render(template: &str, values: &Value) -> Result<Value, String> {
    let mut arguments = vec!["template".to_owned(), "usercert-operator".to_owned()];
    arguments.push(repository().join("charts/usercert-operator").display().to_string());
    arguments.extend(["--namespace", "usercert-system", "--show-only", template].map(str::to_owned));
    arguments.extend(
        values.as_object().unwrap().iter().flat_map(|(key, value)| ["--set-json".to_owned(), format!("{key}={value}")]),
    );
    let output = Command::new(tool("helm").unwrap()).args(arguments).output().unwrap();
    if output.status.success() {
        Ok(yaml(&String::from_utf8(output.stdout).unwrap()))
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn prometheus_rule(values: &Value) -> Result<Value, String> {
    let mut all = json!({ "enabled": true });
    all.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
    render("templates/prometheus-rule.yaml", &json!({ "prometheusRule": all }))
}

#[test]
fn the_prometheus_rule_has_the_rules_of_the_file_and_is_off_unless_it_is_wanted() {
    let rendered = prometheus_rule(&json!({ "labels": { "release": "prometheus" } })).unwrap();
    assert_eq!(rules_of(&rendered["spec"]), rules());
    assert_eq!(rendered["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(rendered["kind"], "PrometheusRule");
    let refusal = render("templates/prometheus-rule.yaml", &json!({})).unwrap_err();
    assert!(refusal.contains("could not find template"), "{refusal}");
}

#[test]
fn values_change_one_rule_and_leave_the_others() {
    let changed = prometheus_rule(&json!({
        "additionalLabels": { "team": "databases" }, "runbookBaseUrl": "https://wiki/alerts",
        "alerts": {
            "UsercertCertificateExpiresSoon": { "threshold": 1_209_600, "for": "2h", "labels": { "severity": "warning" } },
            "UsercertAtlasUnavailable": { "threshold": 0.25, "window": "1h" },
            "UsercertCertificateSuspended": { "enabled": false },
            "UsercertNoLeader": { "expr": "vector(1)", "annotations": { "summary": "Nobody leads." } },
        },
    }));
    let changed = rules_of(&changed.unwrap()["spec"]);
    let of = |name: &str| changed.iter().find(|rule| rule.alert == name).unwrap();
    let before = rules();
    assert_eq!(changed.len(), before.len() - 1);
    let soon = of("UsercertCertificateExpiresSoon");
    assert!(soon.expr.ends_with("< 1209600 # threshold"), "{}", soon.expr);
    assert_eq!((soon.pending.as_deref(), soon.labels["severity"].as_str()), (Some("2h"), "warning"));
    let atlas = of("UsercertAtlasUnavailable");
    assert!(atlas.expr.ends_with("[1h])) > 0.25 # threshold") && !atlas.expr.contains("[15m]"), "{}", atlas.expr);
    let leader = of("UsercertNoLeader");
    assert_eq!((leader.expr.as_str(), leader.annotations["summary"].as_str()), ("vector(1)", "Nobody leads."));
    for rule in &changed {
        assert_eq!(rule.labels["team"], "databases", "{}", rule.alert);
        assert_eq!(rule.annotations["runbook_url"], format!("https://wiki/alerts#{}", rule.alert.to_lowercase()));
        if !["UsercertCertificateExpiresSoon", "UsercertAtlasUnavailable", "UsercertNoLeader"].contains(&rule.alert.as_str()) {
            let former = before.iter().find(|former| former.alert == rule.alert).unwrap();
            assert_eq!(
                (&rule.expr, &rule.pending, &rule.keep_firing_for),
                (&former.expr, &former.pending, &former.keep_firing_for)
            );
        }
    }
}

#[test]
fn values_that_would_change_nothing_are_refused() {
    let refusal = |alerts: Value| prometheus_rule(&json!({ "alerts": alerts })).unwrap_err();
    assert!(refusal(json!({ "UsercertMisspelt": { "for": "1h" } })).contains("there is no alert UsercertMisspelt"));
    assert!(refusal(json!({ "UsercertNoLeader": { "threshold": 1 } })).contains("it has no threshold"));
    assert!(refusal(json!({ "UsercertLoopsStalled": { "window": "1h" } })).contains("it has no window"));
    assert!(refusal(json!({ "UsercertNoLeader": { "treshold": 1 } })).contains("treshold"));
    assert!(refusal(json!({ "UsercertNoLeader": { "for": "soon" } })).contains("for"));
}

#[test]
fn the_dashboard_is_a_config_map_that_the_sidecar_of_grafana_finds() {
    let rendered =
        render("templates/dashboard.yaml", &json!({ "dashboard": { "enabled": true, "namespace": "grafana" } })).unwrap();
    assert_eq!((&rendered["kind"], &rendered["metadata"]["namespace"]), (&json!("ConfigMap"), &json!("grafana")));
    assert_eq!(rendered["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(rendered["data"]["usercert-operator.json"].as_str().unwrap(), file("dashboard.json"));
    let refusal = render("templates/dashboard.yaml", &json!({})).unwrap_err();
    assert!(refusal.contains("could not find template"), "{refusal}");
}
