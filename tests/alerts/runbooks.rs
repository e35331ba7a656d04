//! Alerts and their runbooks.

use std::collections::BTreeSet;

use usercert_test_support::control_plane::repository;

use crate::chart::{file, rules};

fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert_of_that_severity() {
    let page = page("alerts.md");
    let sections: Vec<(&str, &str)> = page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let rules = rules();
    assert_eq!(names, rules.iter().map(|rule| rule.alert.as_str()).collect::<Vec<_>>(), "the same in the same order");
    for (rule, (name, text)) in rules.iter().zip(sections) {
        assert!(text.trim_start().starts_with(&format!("**{}.** ", rule.labels["severity"])), "{name}: {text}");
    }
}

#[test]
fn each_alert_says_how_grave_it_is_what_happened_what_to_change_and_where_its_runbook_is() {
    for rule in rules() {
        assert!(["critical", "warning", "info"].contains(&rule.labels["severity"].as_str()), "{}", rule.alert);
        for annotation in ["summary", "description"] {
            assert!(rule.annotations[annotation].ends_with(['.', '}', ')']), "{}: {annotation}", rule.alert);
        }
        assert_eq!(rule.annotations["runbook_url"], format!("docs/alerts.md#{}", rule.alert.to_lowercase()));
    }
}

/// The first block of the runbook of an alert: how the objects are found that the alert does not name.
pub fn command_of(alert: &str) -> String {
    let page = page("alerts.md");
    let (_, section) = page.split_once(&format!("\n## {alert}\n")).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.lines().next().unwrap().trim().to_owned()
}

#[test]
fn the_alert_about_the_memory_of_a_process_has_the_command_of_its_runbook() {
    let name = "UsercertUnsavedCertificates";
    let rule = rules().into_iter().find(|rule| rule.alert == name).unwrap();
    let (description, command) = (&rule.annotations["description"], command_of(name));
    assert!(description.contains(&command), "{command} is not in {description}");
}

#[test]
fn the_runbook_of_an_alert_about_a_certificate_names_the_verb_that_tells_what_is_wrong() {
    let page = page("alerts.md");
    for rule in rules().iter().filter(|rule| rule.expr.contains("name, issuer)")) {
        let (_, section) = page.split_once(&format!("\n## {}\n", rule.alert)).unwrap();
        let section = section.split("\n## ").next().unwrap();
        assert!(section.contains("`kubectl usercert ") || section.contains("(#usercert"), "{}", rule.alert);
    }
}

/// What stands in a text as the name of a metric of the operator.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words
        .filter(|word| word.starts_with("usercert_") || word.starts_with("process_"))
        .map(|word| word.trim_end_matches("_bucket"))
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_the_operator_has() {
    let documented = page("metrics.md");
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    let documented: BTreeSet<&str> = rows.collect();
    for name in ["alerts.yaml", "dashboard.json"] {
        let text = file(name);
        let used = metrics_in(&text);
        assert!(used.len() > 15, "{name}: {used:?}");
        assert_eq!(used.difference(&documented).collect::<Vec<_>>(), Vec::<&&str>::new(), "{name}");
    }
}
