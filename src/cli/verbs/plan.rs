//! `plan`: the renewals ahead, as a chart.

mod chart;
mod foresee;
mod limits;
mod renewal;

use jiff::SignedDuration;
use usercert_operator_core::decide::{ISSUES_IN_AN_HOUR, pass::CALLS_WITH_LIST};

use self::{
    chart::{chart, date},
    foresee::{FORESEEN, FORESEEN_IN_ALL, Plan, foresee},
    limits::{HeldUser, LimitOfUser, REQUESTS, REQUESTS_A_MINUTE},
};
use super::{
    leader::{Leader, below, leader},
    namespace::must_exist,
    objects::certificates,
};
use crate::{
    arguments::PlanArguments,
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    session::Session,
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, count, paragraph, relative},
};

/// How many renewals stand in the table below the chart.
const LISTED: usize = 10;

/// Answers `plan`.
pub(super) async fn plan(cluster: &Cluster, session: &Session, arguments: &PlanArguments) -> Result<Answer, CliError> {
    let objects = certificates(cluster, &[], &arguments.selection).await?;
    if objects.is_empty() && !arguments.selection.all_namespaces {
        must_exist(cluster).await?;
    }
    let days = SignedDuration::from_hours(24 * i64::from(arguments.days));
    let mut plan = foresee(&objects, session.now(), days, usize::from(arguments.storm));
    // Without an operator none of these renewals comes.
    let (operator, clocks) = leader(cluster, session.now()).await;
    plan.clocks = clocks.faults();
    let exit = if plan.needs_attention() || matches!(operator, Leader::Gone(_)) { Exit::Attention } else { Exit::Good };
    let below = below(&operator, &plan.clocks, &session.terminal);
    plan.operator = Some(operator);
    let text = for_programs(&plan, arguments.output)?
        .unwrap_or_else(|| render(&plan, usize::from(arguments.storm), &session.terminal) + &below);
    Ok(Answer::new(text, exit))
}

impl Plan {
    fn needs_attention(&self) -> bool {
        let nothing_is_wrong = self.storms.is_empty()
            && self.unrenewed.is_empty()
            && self.without_renewal.is_empty()
            && self.limited.is_empty()
            && self.held_users.is_empty()
            && self.clocks.is_empty();
        // The operator settles a queue by itself, if it does so in time.
        !nothing_is_wrong || self.queued_projects.iter().any(|queue| queue.too_late > 0)
    }

    fn reaches_limit(&self) -> bool {
        !(self.limited.is_empty() && self.queued_projects.is_empty() && self.held_users.is_empty())
    }
}

fn render(plan: &Plan, storm: usize, terminal: &Terminal) -> String {
    let title = |text: &str| format!("{}\n", terminal.paint(Mood::Title, text));
    let words = |text: &str| paragraph(Cell::whole(text).text(), 2, terminal);
    let heading = format!("{} from {} to {} (UTC)", count(plan.renewals.len(), "renewal"), date(plan.from), date(plan.until));
    let mut text = title(&heading) + &chart(plan, terminal);
    if !plan.renewals.is_empty() {
        text.push('\n');
        text.push_str(&next(plan, terminal));
    }
    if !plan.storms.is_empty() {
        append(&mut text, format_args!("\n{}", title("Storms")));
        for found in &plan.storms {
            text.push_str(&words(&format!(
                "{}: {} of {} within the hour",
                found.hour,
                count(found.renewals, "renewal"),
                found.issuer
            )));
        }
        text.push_str(&words(&format!(
            "An hour with {storm} renewals of one issuer and more counts as a storm. The operator queues them, what expires first in front, so usually nothing is to be done. To spread them, make spec.renewBefore of a part of them longer, or renew a part of them before: kubectl usercert renew -l ... --at-most {}/h. That is one more certificate for each, and Atlas cannot revoke the former one",
            (storm / 2).clamp(1, 1000)
        )));
    }
    if plan.reaches_limit() {
        append(&mut text, format_args!("\n{}", title("Limits")));
        for sentence in limits(plan) {
            text.push_str(&words(&sentence));
        }
    }
    if !plan.cut_off.is_empty() || plan.foreseen_until.is_some() {
        append(&mut text, format_args!("\n{}", title("Foreseen in part")));
        if let Some(until) = plan.foreseen_until {
            text.push_str(&words(&format!(
                "there are more than {FORESEEN_IN_ALL} renewals in this time: those after {until} are missing here. Ask for less: --days, -l, or one namespace"
            )));
        }
        for found in &plan.cut_off {
            text.push_str(&words(&format!(
                "{}/{} has more than {FORESEEN} renewals in this time: those after {} are missing here",
                found.namespace, found.name, found.after
            )));
        }
    }
    if !plan.without_renewal.is_empty() {
        append(&mut text, format_args!("\n{}", title("Without a renewal")));
        for found in &plan.without_renewal {
            let (namespace, name) = (&found.namespace, &found.name);
            text.push_str(&words(&format!("{namespace}/{name}: {}: kubectl usercert why {name} -n {namespace}", found.why)));
        }
    }
    if !plan.unrenewed.is_empty() {
        append(&mut text, format_args!("\n{}", title("Not renewed before they expire")));
        for found in &plan.unrenewed {
            let expires = relative(found.not_after, plan.from);
            text.push_str(&words(&format!(
                "{}/{} expires {expires}, at {}: {}",
                found.namespace, found.name, found.not_after, found.why
            )));
        }
    }
    text
}

/// A text for each limit that is reached.
fn limits(plan: &Plan) -> Vec<String> {
    let of_objects = plan.limited.iter().map(|found| {
        format!(
            "{}/{} waits from {} on: it is to be renewed more than {ISSUES_IN_AN_HOUR} times within an hour, and the operator does not do that (TooManyIssues). Make spec.renewBefore shorter or the lifetime longer",
            found.namespace, found.name, found.from
        )
    });
    let of_projects = plan.queued_projects.iter().map(|found| {
        format!(
            "Atlas project {}: {} that are due from {} on wait for their turn, until about {} (AtlasQueued). A renewal takes up to {CALLS_WITH_LIST} requests. Atlas admitted {REQUESTS} of a project, and {REQUESTS_A_MINUTE} more each minute, when its answers were recorded. The operator goes by what Atlas tells at the time. What expires first goes first{}",
            found.project,
            count(found.renewals, "renewal"),
            found.from,
            found.until,
            if found.too_late == 0 {
                ", so nothing is to be done".to_owned()
            } else {
                format!(". {} before: make spec.renewBefore of a part of them longer", count(found.too_late, "certificate") + if found.too_late == 1 { " expires" } else { " expire" })
            }
        )
    });
    let of_users = plan.held_users.iter().map(of_user);
    of_objects.chain(of_projects).chain(of_users).collect()
}

fn of_user(found: &HeldUser) -> String {
    let HeldUser { project, username, from, namespace, name, objects, limit } = found;
    let user = format!("database user {username:?} of the Atlas project {project}");
    match limit {
        LimitOfUser::Budget { made, until } => format!(
            "{user}: the renewal of {namespace}/{name} at {from} waits until {until} (AtlasMintBudget). {made} certificates are made for the user within a day, and {} here. If that is too late, ask for the renewal: kubectl usercert renew {name} -n {namespace}",
            if *objects == 1 { "1 object names it".to_owned() } else { format!("{objects} objects name it") },
        ),
        LimitOfUser::Certificates => format!(
            "{user}: Atlas makes no more certificates for it until one of them expires (AtlasCertificateLimit). The renewal of {namespace}/{name} at {from} is the first that needs one. How many Atlas allows is not published"
        ),
    }
}

fn next(plan: &Plan, terminal: &Terminal) -> String {
    let mut table = Table::new(["RENEWS", "NAMESPACE", "NAME", "WORKLOADS FOLLOW FROM"]);
    let known = || plan.renewals.iter().filter(|renewal| !renewal.is_estimate);
    for renewal in known().take(LISTED) {
        table.push([
            relative(renewal.time, plan.from).into(),
            renewal.namespace.as_str().into(),
            renewal.name.as_str().into(),
            renewal.workloads_from.map_or_else(String::new, |time| time.to_string()).into(),
        ]);
    }
    let more = known().count().saturating_sub(LISTED);
    let more = if more == 0 { String::new() } else { format!("and {more} more: -o json has all\n") };
    table.render(terminal) + &more
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{
        foresee::{Storm, WithoutRenewal},
        limits::{Limited, QueuedProject},
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
        let storm = Storm {
            hour: "2026-01-20T10:00:00Z".parse().unwrap(),
            issuer: "ClusterCertificateIssuer/atlas".into(),
            renewals: 3,
        };
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
        assert!(
            text.contains("shop/hourly has more than 1000 renewals in this time: those after 2026-02-11T16:00:00Z"),
            "{text}"
        );
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
        let mut status =
            json!({ "notBefore": "2025-12-31T12:00:00Z", "notAfter": "2026-01-02T12:00:00Z", "verified": verified });
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
}
