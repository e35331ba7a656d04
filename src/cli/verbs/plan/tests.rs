#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    foresee::{CutOff, Storm, WithoutRenewal},
    limits::{HeldUser, LimitOfUser, Limited, QueuedProject},
    *,
};
use crate::verbs::objects::Certificate;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn object(name: &str, renewal_time: &str, spec: &Value, status: &Value) -> Certificate {
    let mut object = json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
        "metadata": { "namespace": "shop", "name": name, "uid": name },
        "spec": { "username": name, "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "atlas" } },
        "status": { "notBefore": "2025-11-10T00:00:00Z", "notAfter": "2026-02-10T00:00:00Z", "renewalTime": renewal_time },
    });
    for (part, changes) in [("spec", spec), ("status", status)] {
        for (key, value) in changes.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
    serde_json::from_value(object).map_or_else(|_| unreachable!(), std::convert::identity)
}

fn foreseen(objects: &[Certificate]) -> Plan {
    foresee(objects, now(), SignedDuration::from_hours(24 * 90), 3)
}

#[test]
fn short_lived_certificates_are_renewed_again_and_overdue_ones_now() {
    let daily = object("daily", "2026-01-01T12:00:00Z", &json!({}), &json!({ "notBefore": "2025-12-31T12:00:00Z" }));
    let overdue = object("overdue", "2025-12-30T00:00:00Z", &json!({}), &json!({}));
    let plan = foreseen(&[daily, overdue]);
    assert_eq!(plan.renewals.iter().filter(|renewal| renewal.name == "daily").count(), 90);
    let overdue: Vec<_> = plan.renewals.iter().filter(|renewal| renewal.name == "overdue").collect();
    assert_eq!((overdue[0].time, overdue[0].is_estimate), (now(), false));
    assert_eq!((overdue.len(), overdue[1].is_estimate), (2, true));
}

#[test]
fn a_certificate_that_is_renewed_again_and_again_reaches_the_limit_of_an_hour() {
    let hasty = |minutes: &str| {
        let begun = json!({ "notBefore": "2026-01-01T00:00:00Z" });
        object("hasty", &format!("2026-01-01T00:{minutes}:00Z"), &json!({}), &begun)
    };
    let plan = foreseen(&[hasty("10")]);
    let from = "2026-01-01T01:00:00Z".parse().unwrap();
    assert_eq!(plan.limited, [Limited { namespace: "shop".into(), name: "hasty".into(), from }]);
    let text = render(&plan, 10_000, &Terminal::none());
    assert!(text.contains("l reaches a limit") && text.contains("shop/hasty waits from 2026-01-01T01:00:00Z on"), "{text}");
    let plan = foreseen(&[hasty("12")]);
    assert!(plan.limited.is_empty() && !render(&plan, 10_000, &Terminal::none()).contains("Limits"));
}

#[test]
fn many_renewals_of_one_issuer_within_an_hour_are_a_storm() {
    let together: Vec<Certificate> = (0..3)
        .map(|minute| object(&format!("c{minute}"), &format!("2026-01-20T10:{minute}0:00Z"), &json!({}), &json!({})))
        .collect();
    let storm =
        Storm { hour: "2026-01-20T10:00:00Z".parse().unwrap(), issuer: "ClusterCertificateIssuer/atlas".into(), renewals: 3 };
    assert_eq!(foreseen(&together).storms, [storm]);
    assert_eq!(foreseen(&together[..2]).storms, []);
    // No clock divides it.
    let across = ["10:50", "11:05", "11:20"]
        .map(|time| object(&time.replace(':', "-"), &format!("2026-01-20T{time}:00Z"), &json!({}), &json!({})));
    let storms = foreseen(&across).storms;
    assert_eq!((storms.len(), storms[0].renewals, storms[0].hour.to_string().as_str()), (1, 3, "2026-01-20T10:50:00Z"));
}

#[test]
fn what_is_foreseen_in_part_is_told() {
    let hourly = object("hourly", "2026-01-01T01:00:00Z", &json!({}), &json!({ "notBefore": "2026-01-01T00:00:00Z" }));
    let plan = foreseen(&[hourly]);
    assert_eq!((plan.renewals.len(), plan.cut_off[0].after.to_string().as_str()), (FORESEEN, "2026-02-11T16:00:00Z"));
    let text = render(&plan, 10_000, &Terminal::none());
    assert!(text.contains("shop/hourly has more than 1000 renewals in this time: those after 2026-02-11T16:00:00Z"), "{text}");
}

#[test]
fn renewals_of_very_many_short_lives_are_foreseen_in_part_up_to_one_time() {
    let hourly = |name: usize| {
        object(&name.to_string(), "2026-01-01T01:00:00Z", &json!({}), &json!({ "notBefore": "2026-01-01T00:00:00Z" }))
    };
    let mut objects: Vec<Certificate> = (0..300).map(hourly).collect();
    assert_eq!(foreseen(&objects[..100]).foreseen_until, None);
    objects.push(object("long", "2026-01-10T00:00:00Z", &json!({}), &json!({})));
    let plan = foreseen(&objects);
    assert!((99_700..=FORESEEN_IN_ALL).contains(&plan.renewals.len()), "{}", plan.renewals.len());
    assert!(plan.renewals.iter().any(|renewal| renewal.name == "long"), "each is foreseen up to the same time");
    let text = render(&plan, 10_000, &Terminal::none());
    assert!(text.contains("more than 100000 renewals in this time: those after 2026-01-14T"), "{text}");
}

#[test]
fn nothing_is_renewed_after_the_end_of_its_ca() {
    let verified = json!({ "uid": "s", "resourceVersion": "1", "issuer": "CN=CA", "privateKey": "ECDSA 256", "chainNotAfter": "2026-01-04T12:00:00Z" });
    let mut status = json!({ "notBefore": "2025-12-31T12:00:00Z", "notAfter": "2026-01-02T12:00:00Z", "verified": verified });
    let daily = |status: &Value| object("daily", "2026-01-01T12:00:00Z", &json!({}), status);
    let plan = foreseen(&[daily(&status)]);
    assert_eq!(plan.renewals.len(), 3);
    let [found] = plan.unrenewed.as_slice() else { unreachable!("{:?}", plan.unrenewed) };
    assert_eq!(found.not_after.to_string(), "2026-01-04T12:00:00Z");
    assert!(found.why.starts_with("its CA ends then") && plan.needs_attention(), "{found:?}");
    status["verified"]["chainNotAfter"] = json!("2027-01-04T12:00:00Z");
    let plan = foreseen(&[daily(&status)]);
    assert!(plan.renewals.len() > 80 && !plan.needs_attention());
}

#[test]
fn what_expires_unrenewed_is_told() {
    let suspended = object("suspended", "2026-01-20T00:00:00Z", &json!({ "suspend": true }), &json!({}));
    let verified = json!({ "uid": "s", "resourceVersion": "1", "issuer": "CN=CA", "privateKey": "ECDSA 256", "chainNotAfter": "2026-01-15T00:00:00Z" });
    let ca = object("ca", "2026-01-20T00:00:00Z", &json!({}), &json!({ "verified": verified }));
    let good = object("good", "2026-01-20T00:00:00Z", &json!({}), &json!({}));
    let plan = foreseen(&[suspended, ca, good]);
    let told: Vec<_> = plan.unrenewed.iter().map(|found| (found.name.as_str(), found.not_after.to_string())).collect();
    assert_eq!(told, [("ca", "2026-01-15T00:00:00Z".to_owned()), ("suspended", "2026-02-10T00:00:00Z".to_owned())]);
    assert!(plan.renewals.iter().all(|renewal| renewal.name != "suspended"));
}

#[test]
fn what_has_no_renewal_ahead_is_told() {
    let none = json!({ "notBefore": null, "notAfter": null, "renewalTime": null, "observedGeneration": 1 });
    let with = |reason: &str, issuing: &str, mut status: Value| {
        let condition = |type_: &str, value: &str| json!({ "type": type_, "status": value, "reason": reason, "message": "m", "lastTransitionTime": "2025-12-31T23:55:00Z" });
        status["conditions"] = json!([condition("Ready", "False"), condition("Issuing", issuing)]);
        status
    };
    let object = |name: &str, spec: &Value, status: &Value| {
        let mut found = object(name, "2026-01-20T00:00:00Z", spec, status);
        found.metadata.generation = Some(1);
        found
    };
    let spec = json!({});
    let resumed = json!({ "renewalTime": null, "notAfter": "2026-12-01T00:00:00Z" });
    let plan = foreseen(&[
        object("fails", &spec, &with("AtlasUserNotFound", "False", none.clone())),
        object("on-its-way", &spec, &with("NoCertificate", "True", none.clone())),
        object("never-issued-and-suspended", &json!({ "suspend": true }), &with("Suspended", "False", none)),
        object("resumed-without-its-issuer", &spec, &with("IssuerNotFound", "False", resumed.clone())),
        object("suspended-for-long", &json!({ "suspend": true }), &resumed),
        object("good", &spec, &json!({})),
    ]);
    let told = |name: &str, why| WithoutRenewal { namespace: "shop".into(), name: name.into(), why };
    let expected = [
        told("fails", "it has no certificate"),
        told("never-issued-and-suspended", "it has no certificate"),
        told("resumed-without-its-issuer", "its renewal time is not known"),
    ];
    assert_eq!(plan.without_renewal, expected);
    assert!(plan.needs_attention() && plan.unrenewed.is_empty());
    let text = render(&plan, 10_000, &Terminal::none());
    assert!(
        text.contains("Without a renewal\n  shop/fails: it has no certificate: kubectl usercert why fails -n shop\n"),
        "{text}"
    );
}

#[test]
fn the_advice_against_a_storm_makes_none() {
    let together: Vec<Certificate> =
        (0..40).map(|name| object(&name.to_string(), "2026-01-20T10:00:00Z", &json!({}), &json!({}))).collect();
    for storm in [2, 3, 20] {
        let plan = foresee(&together, now(), SignedDuration::from_hours(24 * 90), storm);
        let text = render(&plan, storm, &Terminal::none());
        let (_, command) = text.split_once("kubectl usercert renew -l ... --at-most ").unwrap();
        let rate = command.split_once("/h").unwrap().0.parse::<usize>().unwrap();
        assert!((1..storm).contains(&rate), "{rate} an hour, and {storm} are a storm");
        assert!(text.contains("usually nothing is to be done"), "{text}");
    }
}

#[test]
fn a_limit_that_is_reached_is_told_and_marked_in_its_week() {
    let mut plan = foreseen(&[object("a", "2026-01-09T10:00:00Z", &json!({}), &json!({}))]);
    assert!(!plan.needs_attention());
    let (from, until) = ("2026-01-09T10:00:00Z".parse().unwrap(), "2026-01-09T10:00:24Z".parse().unwrap());
    plan.queued_projects.push(QueuedProject { project: "5f01".into(), from, until, renewals: 96, too_late: 0 });
    assert!(!plan.needs_attention(), "the operator settles it in time");
    plan.queued_projects[0].too_late = 1;
    assert!(plan.needs_attention());
    let held = HeldUser {
        project: "5f01".into(),
        username: "orders".into(),
        from: "2026-01-22T10:00:00Z".parse().unwrap(),
        namespace: "shop".into(),
        name: "a".into(),
        objects: 1,
        limit: LimitOfUser::Budget { made: 5, until },
    };
    plan.held_users.push(held.clone());
    plan.held_users.push(HeldUser { limit: LimitOfUser::Certificates, ..held });
    assert!(plan.needs_attention());
    let text = render(&plan, 10_000, &Terminal::none());
    let marked: Vec<&str> = text.lines().filter(|line| line.ends_with(" l")).map(|line| &line[..10]).collect();
    assert_eq!(marked, ["2026-01-08", "2026-01-22"], "{text}");
    for expected in [
        "l reaches a limit of the operator or of Atlas",
        "Limits\n  Atlas project 5f01: 96 renewals that are due from 2026-01-09T10:00:00Z on wait for their turn, until about 2026-01-09T10:00:24Z (AtlasQueued)",
        "database user \"orders\" of the Atlas project 5f01: the renewal of shop/a at 2026-01-22T10:00:00Z waits until 2026-01-09T10:00:24Z (AtlasMintBudget). 5 certificates are made for the user within a day, and 1 object names it here",
        "Atlas makes no more certificates for it until one of them expires (AtlasCertificateLimit)",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
    }
}

#[test]
fn the_chart_has_a_bar_for_each_week_with_marks() {
    let windows = json!({ "rollout": { "auto": true, "windows": [{ "days": ["Sat"], "from": "10:00", "to": "12:00" }] } });
    let objects = [
        object("a", "2026-01-09T10:00:00Z", &windows, &json!({})),
        object("b", "2026-01-09T10:10:00Z", &json!({}), &json!({})),
        object("c", "2026-01-09T10:20:00Z", &json!({}), &json!({})),
        object("d", "2026-01-24T10:20:00Z", &json!({}), &json!({})),
    ];
    let text = render(&foresee(&objects, now(), SignedDuration::from_hours(24 * 27), 3), 3, &Terminal::none());
    let expected = "\
4 renewals from 2026-01-01 to 2026-01-28 (UTC)
2026-01-01
2026-01-08  ### 3 ! w
2026-01-15
2026-01-22  # 1
each line is a week; ! has a storm; w workloads wait for a window of their rollout

RENEWS   NAMESPACE   NAME   WORKLOADS FOLLOW FROM
in 8d    shop        a      2026-01-10T10:00:00Z
in 8d    shop        b
in 8d    shop        c
in 23d   shop        d
";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains("Storms\n  2026-01-09T10:00:00Z: 3 renewals of ClusterCertificateIssuer/atlas within the hour\n"),
        "{text}"
    );
    let narrow = Terminal { width: Some(40), ..Terminal::none() };
    let many: Vec<Certificate> =
        (0..40).map(|day| object(&day.to_string(), "2026-01-09T10:00:00Z", &json!({}), &json!({}))).collect();
    let text = render(&foreseen(&many), 50, &narrow);
    assert!(text.lines().filter(|line| line.contains('#')).all(|line| line.len() <= 40), "{text}");
}

/// Those of the other lists, a test of the whole program compares.
#[test]
fn the_fields_of_lists_that_are_seldom_filled_are_those_of_the_docs() {
    let text = String::new;
    let mut plan = foreseen(&[]);
    plan.foreseen_until = Some(now());
    plan.limited.push(Limited { namespace: text(), name: text(), from: now() });
    plan.queued_projects.push(QueuedProject { project: text(), from: now(), until: now(), renewals: 1, too_late: 0 });
    let limit = LimitOfUser::Budget { made: 1, until: now() };
    let held = HeldUser { project: text(), username: text(), from: now(), namespace: text(), name: text(), objects: 1, limit };
    plan.held_users.push(held);
    plan.cut_off.push(CutOff { namespace: text(), name: text(), after: now() });
    let (_, docs) = include_str!("../../../../docs/cli.md").split_once("| Answer of | Fields |").unwrap();
    let documented = |place: &str| {
        let row = docs.lines().find_map(|line| line.strip_prefix(&format!("| {place} | "))).unwrap();
        row.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<BTreeSet<_>>()
    };
    let told = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let answer = serde_json::to_value(&plan).unwrap();
    assert_eq!(told(&answer), documented("`plan`"));
    for list in ["limited", "queuedProjects", "heldUsers", "cutOff"] {
        assert_eq!(told(&answer[list][0]), documented(&format!("`plan`, each of `{list}`")));
    }
}
