//! The alerts before the real promtool.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use usercert_test_support::control_plane::{repository, tool};

use crate::chart::{file, rules, yaml};

fn promtool(arguments: &[&str]) -> Output {
    Command::new(tool("promtool").unwrap()).args(arguments).current_dir(repository()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A test for each alert.
const TESTS: [&str; 2] = ["rules.test.yaml", "days.test.yaml"];

/// Restarts of the leader, and other labels.
const GAPS: &str = "gaps.test.yaml";

fn tests(file: &str) -> String {
    std::fs::read_to_string(repository().join("tests/alerts").join(file)).unwrap()
}

#[test]
fn promtool_takes_the_rules_and_its_tests_pass() {
    let checked = promtool(&["check", "rules", "--lint=all", "--lint-fatal", "charts/usercert-operator/files/alerts.yaml"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let tests = [TESTS[0], TESTS[1], GAPS].map(|file| format!("tests/alerts/{file}"));
    let tested = promtool(&["test", "rules", &tests[0], &tests[1], &tests[2]]);
    assert!(tested.status.success(), "{}", said(&tested));
}

#[test]
fn promtool_tries_each_alert_before_it_fires_while_it_fires_and_after_it() {
    let files = TESTS.map(|file| yaml::<Value>(&tests(file)));
    let tried: BTreeMap<&str, Vec<bool>> = files
        .iter()
        .flat_map(|file| file["tests"].as_array().unwrap())
        .map(|test| {
            let name = test["name"].as_str().unwrap();
            let expression = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
            let samples = test["promql_expr_test"].as_array().unwrap().iter().map(|asked| {
                assert_eq!(asked["expr"], expression.as_str(), "{name}");
                !asked["exp_samples"].as_array().unwrap().is_empty()
            });
            (name, samples.collect())
        })
        .collect();
    let rules = rules();
    assert_eq!(tried.keys().copied().collect::<BTreeSet<_>>(), rules.iter().map(|rule| rule.alert.as_str()).collect());
    for (name, fires) in tried {
        assert_eq!(fires, [false, true, false], "{name}");
    }
}

/// The tests of an alert fail if it never fires, and if it always does.
#[test]
fn the_tests_of_each_alert_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let (names, count) = (rules().into_iter().map(|rule| rule.alert), rules().len());
    let failed_with = |expression: &str| {
        let mut groups: Value = yaml(&file("alerts.yaml"));
        for rule in groups["groups"].as_array_mut().unwrap().iter_mut().flat_map(|group| group["rules"].as_array_mut().unwrap())
        {
            rule["expr"] = expression.into();
            rule["for"] = "0s".into();
        }
        let write = |name: &str, text: &str| std::fs::write(Path::new(folder.path()).join(name), text).unwrap();
        // JSON is YAML.
        write("alerts.yaml", &groups.to_string());
        let paths = TESTS.map(|file| {
            write(file, &tests(file).replace("../../charts/usercert-operator/files/alerts.yaml", "alerts.yaml"));
            folder.path().join(file).display().to_string()
        });
        let output = promtool(&["test", "rules", &paths[0], &paths[1]]);
        assert!(!output.status.success());
        let said = said(&output);
        names.clone().filter(|name| said.contains(&format!("alertname=\"{name}\""))).count()
    };
    assert_eq!(failed_with("vector(1) > 2"), count, "none fires");
    assert_eq!(failed_with("vector(1)"), count, "all fire");
}

/// Which alerts differ from what the tests of gaps and of days expect, if the rules are changed so. `true`: its branch for totals.
fn differing_with(change: impl Fn(&str) -> String) -> BTreeSet<(String, bool)> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let (before, changed) = (file("alerts.yaml"), change(&file("alerts.yaml")));
    assert_ne!(before, changed);
    write("alerts.yaml", &changed);
    let paths = [GAPS, TESTS[1]].map(|file| {
        write(file, &tests(file).replace("../../charts/usercert-operator/files/alerts.yaml", "alerts.yaml"));
        folder.path().join(file).display().to_string()
    });
    let said = said(&promtool(&["test", "rules", &paths[0], &paths[1]]));
    let samples = |line: &str, word: &str| -> Option<BTreeSet<String>> {
        let samples = line.trim_start().strip_prefix(word)?;
        Some(samples.split('{').filter_map(|sample| Some(sample.split_once('}')?.0.to_owned())).collect())
    };
    let lines: Vec<&str> = said.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| Some((samples(pair[0], "exp:")?, samples(pair[1], "got:")?)));
    let differing = pairs.flat_map(|(expected, got)| expected.symmetric_difference(&got).cloned().collect::<Vec<_>>());
    let named = differing.filter_map(|labels| {
        let name = labels.split("alertname=\"").nth(1)?.split('"').next()?;
        Some((name.to_owned(), labels.contains("namespace=\"usercert-system\"") && !labels.contains("exported_namespace")))
    });
    named.collect()
}

/// The alerts whose rules bridge gaps, in each form that does so (`true`: totals), but for those whose tests have seen a change of the rules.
fn bridging_without(seen: &BTreeSet<(String, bool)>) -> Vec<(String, bool)> {
    let each = ["certificate_", "issuer_", "rollout_", "credentials_"].map(|metric| (metric, false));
    let totals = ["certificates_", "rollouts_"].map(|metric| (metric, true));
    let forms: Vec<_> = each.into_iter().chain(totals).collect();
    let of_rule = |rule: crate::chart::Rule| {
        let bridges = |metric: &str| rule.expr.contains(&format!("last_over_time(usercert_{metric}"));
        let found = forms.iter().filter(|(metric, _)| bridges(metric)).map(|(_, total)| (rule.alert.clone(), *total));
        found.collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = rules().into_iter().flat_map(of_rule).collect();
    assert!(all.len() > 15, "{all:?}");
    all.difference(seen).cloned().collect()
}

#[test]
fn without_a_range_that_spans_restarts_the_tests_of_each_alert_that_has_one_fail() {
    // A gap of two minutes is longer than the range.
    let differing = differing_with(|rules| rules.replace("[15m]", "[1m]"));
    assert_eq!(bridging_without(&differing), []);
}

#[test]
fn if_what_is_not_told_any_more_counts_while_a_process_leads_the_tests_of_each_alert_that_bridges_gaps_fail() {
    let differing = differing_with(|rules| rules.replace("usercert_working == 1 and", "usercert_working == 2 and"));
    assert_eq!(bridging_without(&differing), []);
}

#[test]
fn without_the_job_in_the_lists_of_labels_the_tests_of_each_alert_about_totals_fail() {
    let differing = differing_with(|rules| rules.replace("by (cluster, namespace, job", "by (cluster, namespace"));
    let unseen: Vec<_> = bridging_without(&differing).into_iter().filter(|(_, is_total)| *is_total).collect();
    assert_eq!(unseen, []);
}

#[test]
fn a_process_that_was_restarted_in_place_is_no_leader_of_two_minutes() {
    let differing = differing_with(|rules| rules.replace(" unless process_start_time_seconds > time() - 120", ""));
    assert_eq!(differing, BTreeSet::from([("UsercertCertificateNotReady".to_owned(), false)]));
}

#[test]
fn without_a_label_of_the_lists_the_tests_of_gaps_fail() {
    for label in ["cluster, ", "exported_namespace, "] {
        assert!(!differing_with(|rules| rules.replace(label, "")).is_empty(), "without {label}");
    }
}
