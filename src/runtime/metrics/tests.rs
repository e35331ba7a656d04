#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod lead;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use jiff::Timestamp;

use super::*;
use crate::{
    api::{IssuerKey, IssuerKind, ObjectKey},
    figures::{CertificateFigures, IssuerFigures, Readiness},
    rollout::Figures,
};

const EXPIRY: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A scope with these certificates, with one of whatever else can be told.
struct Scope(Vec<CertificateFigures>);

impl Inventory for Scope {
    fn certificates(&self, _: CertificateSeries) -> Vec<CertificateFigures> {
        self.0.clone()
    }

    fn issuers(&self) -> Vec<IssuerFigures> {
        let issuer =
            IssuerKey { kind: IssuerKind::ClusterCertificateIssuer, namespace: String::new(), name: "users".to_owned() };
        let dates = IssuerFigures {
            credentials_refused: Some(Reason::AtlasUnauthorized),
            ca_not_after: Some(EXPIRY),
            credentials_not_after: Some(EXPIRY),
            ..IssuerFigures::of(issuer, None)
        };
        vec![dates]
    }

    fn rate_limits(&self) -> Vec<RateLimit> {
        vec![RateLimit { endpoint: "https://a".to_owned(), project: "p".to_owned(), remaining: 7 }]
    }

    fn queue_depth(&self) -> usize {
        3
    }

    fn unsaved(&self) -> usize {
        1
    }
}

/// A good certificate of the issuer `ca`.
fn good(name: &str) -> CertificateFigures {
    CertificateFigures {
        object: ObjectKey::new("shop", name),
        issuer: "CertificateIssuer/ca".to_owned(),
        ready: Readiness::True,
        not_after: Some(EXPIRY),
        renewal_time: Some(EXPIRY),
        consecutive_failures: 0,
        unaccounted: 0,
        unaccounted_latest_expiry: None,
        is_suspended: false,
        had_certificate: true,
        rollout: None,
        pods_behind: None,
        issuer_exists: true,
        credentials_refused: None,
    }
}

/// One with everything that there is to tell.
fn troubled(name: &str) -> CertificateFigures {
    let rollout = Figures {
        serial_number: "4AF3".to_owned(),
        workloads: 4,
        moved: 3,
        is_complete: false,
        old_not_after: Some(EXPIRY),
        regardless_of_windows_after: Some(EXPIRY),
    };
    CertificateFigures {
        ready: Readiness::False,
        consecutive_failures: 2,
        unaccounted: 5,
        unaccounted_latest_expiry: Some(EXPIRY),
        is_suspended: true,
        rollout: Some(rollout),
        pods_behind: Some(6),
        ..good(name)
    }
}

/// The lines of the series whose names begin so.
fn series(metrics: &Metrics, prefix: &str) -> Vec<String> {
    let text = metrics.encode().unwrap();
    text.lines().filter(|line| line.starts_with(prefix)).map(ToOwned::to_owned).collect()
}

/// The metrics of a process that waits for so many scopes.
fn waiting_for(scopes: usize, leadership: Leadership, series: CertificateSeries) -> (Metrics, super::Readiness) {
    let readiness = super::Readiness::awaiting(scopes);
    (Metrics::new(leadership, Liveness::default(), readiness.clone(), series), readiness)
}

fn telling(series: CertificateSeries, leadership: Leadership, certificates: Vec<CertificateFigures>) -> (Metrics, Arc<Scope>) {
    let (metrics, scope) = (waiting_for(0, leadership, series).0, Arc::new(Scope(certificates)));
    let inventory: Weak<dyn Inventory> = Arc::<Scope>::downgrade(&scope);
    metrics.tell_of(inventory);
    (metrics, scope)
}

#[test]
fn a_certificate_has_four_series_and_others_only_if_there_is_something_to_tell() {
    let (metrics, _scope) = telling(CertificateSeries::Each, Leadership::alone(None), vec![good("orders")]);
    let labels = r#"{namespace="shop",name="orders",issuer="CertificateIssuer/ca"}"#;
    let of = |name: &str, value: &str| format!("usercert_certificate_{name}{labels} {value}");
    let expected = [
        of("not_after_timestamp_seconds", "1800000000"),
        of("renewal_timestamp_seconds", "1800000000"),
        of("ready", "1"),
        of("consecutive_failures", "0"),
    ];
    assert_eq!(series(&metrics, "usercert_certificate_"), expected);
    assert_eq!(series(&metrics, "usercert_rollout"), Vec::<String>::new());

    let (metrics, _scope) = telling(CertificateSeries::Each, Leadership::alone(None), vec![troubled("orders")]);
    let further =
        [of("unaccounted", "5"), of("unaccounted_latest_expiry_timestamp_seconds", "1800000000"), of("suspended", "1")];
    assert_eq!(series(&metrics, "usercert_certificate_")[4..], further);
    let of = |name: &str, value: &str| format!("usercert_rollout_{name}{{namespace=\"shop\",name=\"orders\"}} {value}");
    let expected = [
        of("workloads", "4"),
        of("workloads_moved", "3"),
        of("pods_behind", "6"),
        of("deadline_timestamp_seconds", "1800000000"),
        of("regardless_of_windows_timestamp_seconds", "1800000000"),
        "usercert_rollout_info{serial_number=\"4AF3\",namespace=\"shop\",name=\"orders\"} 1".to_owned(),
    ];
    assert_eq!(series(&metrics, "usercert_rollout_"), expected);
}

#[test]
fn no_pod_is_behind_once_a_rollout_is_complete() {
    let mut certificate = CertificateFigures { pods_behind: None, ..troubled("orders") };
    let behind = |certificate: &CertificateFigures| {
        let (metrics, _scope) = telling(CertificateSeries::Each, Leadership::alone(None), vec![certificate.clone()]);
        series(&metrics, "usercert_rollout_pods_behind")
    };
    assert_eq!(behind(&certificate), Vec::<String>::new(), "nobody has looked");
    certificate.rollout.as_mut().unwrap().is_complete = true;
    assert_eq!(behind(&certificate), ["usercert_rollout_pods_behind{namespace=\"shop\",name=\"orders\"} 0"]);
}

#[test]
fn totals_take_the_place_of_the_series_of_each_certificate() {
    let of_another =
        CertificateFigures { issuer: "userRef".to_owned(), not_after: None, ready: Readiness::Unknown, ..good("c") };
    let later = CertificateFigures { not_after: EXPIRY.checked_add(jiff::SignedDuration::from_hours(1)).ok(), ..good("a") };
    let all = vec![later, troubled("b"), of_another];
    let (metrics, _scope) = telling(CertificateSeries::Totals, Leadership::alone(None), all);
    for of_each in ["usercert_certificate_", "usercert_rollout_"] {
        assert_eq!(series(&metrics, of_each), Vec::<String>::new());
    }
    let expected = [
        r#"usercert_certificates{issuer="CertificateIssuer/ca",ready="True"} 1"#,
        r#"usercert_certificates{issuer="CertificateIssuer/ca",ready="False"} 1"#,
        r#"usercert_certificates{issuer="CertificateIssuer/ca",ready="Unknown"} 0"#,
        r#"usercert_certificates{issuer="userRef",ready="True"} 0"#,
        r#"usercert_certificates{issuer="userRef",ready="False"} 0"#,
        r#"usercert_certificates{issuer="userRef",ready="Unknown"} 1"#,
    ];
    assert_eq!(series(&metrics, "usercert_certificates{"), expected);
    let of_ca =
        |name: &str| series(&metrics, &format!("usercert_certificates_{name}{{issuer=\"CertificateIssuer/ca\"}} "))[0].clone();
    assert!(of_ca("earliest_not_after_timestamp_seconds").ends_with(" 1800000000"));
    assert!(
        of_ca("failing").ends_with(" 0") && of_ca("not_ready").ends_with(" 1"),
        "the troubled one is suspended, and had a certificate"
    );
    assert!(of_ca("suspended").ends_with(" 1") && of_ca("unaccounted").ends_with(" 5"));
    assert!(series(&metrics, "usercert_rollouts_incomplete")[0].ends_with(" 1"));
    assert!(series(&metrics, "usercert_rollouts_earliest_deadline_timestamp_seconds")[0].ends_with(" 1800000000"));
}

#[test]
fn in_totals_an_expired_certificate_and_a_suspended_one_hide_no_other_that_is_overdue() {
    let now = Timestamp::now();
    let at = |hours: i64| now.checked_add(jiff::SignedDuration::from_hours(hours)).ok();
    let of = |name: &str, not_after: i64, renewal: i64| CertificateFigures {
        not_after: at(not_after),
        renewal_time: at(renewal),
        ..good(name)
    };
    let all = vec![
        CertificateFigures { ready: Readiness::False, ..of("expired", -2, -9) },
        CertificateFigures { is_suspended: true, ready: Readiness::False, consecutive_failures: 3, ..of("suspended", 1, -8) },
        CertificateFigures {
            is_suspended: true,
            had_certificate: false,
            ready: Readiness::False,
            not_after: None,
            ..good("new")
        },
        of("overdue", 5, -2),
        of("renewed-now", 3, 0),
        CertificateFigures { consecutive_failures: 1, ..of("overdue-too", 7, -2) },
        of("good", 90, 60),
    ];
    let (metrics, _scope) = telling(CertificateSeries::Totals, Leadership::alone(None), all);
    let value = |name: &str| {
        let line = series(&metrics, &format!("usercert_certificates_{name}{{")).swap_remove(0);
        line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap()
    };
    let counts = ["expired", "overdue", "not_ready", "failing", "suspended"].map(value);
    assert_eq!(counts, [1, 3, 2, 1, 2]);
    assert_eq!(Some(value("earliest_not_after_timestamp_seconds")), at(-2).map(Timestamp::as_second));
    assert_eq!(Some(value("earliest_overdue_not_after_timestamp_seconds")), at(5).map(Timestamp::as_second));
    assert_eq!(Some(value("earliest_renewal_timestamp_seconds")), at(-2).map(Timestamp::as_second));
}

#[test]
fn who_names_issuers_that_are_not_there_makes_no_series_of_totals() {
    let invented = |number: usize| CertificateFigures {
        issuer: format!("CertificateIssuer/invented-{number}"),
        issuer_exists: false,
        ..good("orders")
    };
    let (metrics, _scope) = telling(CertificateSeries::Totals, Leadership::alone(None), (0..50).map(invented).collect());
    let text = metrics.encode().unwrap();
    assert!(!text.contains("invented"), "{text}");
    assert!(text.contains("usercert_certificates{issuer=\"missing\",ready=\"True\"} 50\n"), "{text}");
}

#[test]
fn refused_credentials_are_told_once_for_an_issuer_and_once_for_a_namespace_without() {
    let refused = |name: &str| CertificateFigures { credentials_refused: Some(Reason::AtlasForbidden), ..good(name) };
    for certificates in [CertificateSeries::Each, CertificateSeries::Totals] {
        let (metrics, _scope) = telling(certificates, Leadership::alone(None), vec![refused("a"), refused("b"), good("c")]);
        assert_eq!(
            series(&metrics, "usercert_credentials_refused"),
            [
                r#"usercert_credentials_refused{kind="ClusterCertificateIssuer",namespace="",name="users",reason="AtlasUnauthorized"} 1"#,
                r#"usercert_credentials_refused{kind="userRef",namespace="shop",name="",reason="AtlasForbidden"} 1"#,
            ]
        );
    }
}

#[test]
fn who_was_suspended_before_the_first_certificate_is_not_told_as_not_ready() {
    let ready = |had_certificate: bool| {
        let certificate = CertificateFigures { had_certificate, ..troubled("orders") };
        let (metrics, _scope) = telling(CertificateSeries::Each, Leadership::alone(None), vec![certificate]);
        series(&metrics, "usercert_certificate_ready").len()
    };
    assert_eq!((ready(true), ready(false)), (1, 0));
}

#[test]
fn scopes_are_told_of_together_and_a_limit_that_they_share_once() {
    let (metrics, _first) = telling(CertificateSeries::Each, Leadership::alone(None), vec![good("a")]);
    let second: Arc<dyn Inventory> = Arc::new(Scope(vec![good("b")]));
    metrics.tell_of(Arc::downgrade(&second));
    assert_eq!(series(&metrics, "usercert_certificate_ready{").len(), 2);
    assert_eq!(series(&metrics, "usercert_atlas_rate_limit_remaining{").len(), 1);
    assert_eq!(series(&metrics, "usercert_queue_depth"), ["usercert_queue_depth 6"]);
    assert_eq!(metrics.encode().unwrap().matches("# TYPE usercert_certificate_ready ").count(), 1);
}

#[test]
fn what_may_be_counted_is_there_from_the_beginning_with_zero() {
    let (metrics, untouched) = (Metrics::default(), Metrics::default());
    let names = |metrics: &Metrics| -> BTreeSet<String> {
        let counters = [
            "usercert_certificates_issued",
            "usercert_issue_failures",
            "usercert_warnings",
            "usercert_reconciles",
            "usercert_atlas_requests",
            "usercert_watch_failures",
            "usercert_reconcile_duration",
            "usercert_atlas_request_duration",
        ];
        let lines = counters.iter().flat_map(|counter| series(metrics, counter));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert!(series(&untouched, "usercert_issue_failures").iter().all(|line| line.ends_with("} 0")));
    for reason in Reason::ALL.iter().filter(|reason| reason.severity() == Severity::Warning) {
        metrics.warned(*reason);
    }
    for issuer in IssuerType::ALL {
        metrics.issued(issuer, Reason::RenewalDue);
        metrics.failed(issuer, Reason::SecretNotWritable);
    }
    metrics.failed(IssuerType::Atlas, Reason::AtlasRateLimited);
    metrics.failed(IssuerType::Ca, Reason::CaNotInDate);
    for controller in ControllerName::ALL {
        metrics.reconciled(controller, PassOutcome::Done);
    }
    metrics.pass_took(Duration::from_secs(1));
    metrics.asked_atlas(AtlasOperation::GetUser, AtlasOutcome::Answered(418), Duration::from_secs(1));
    metrics.watch_failed();
    assert_eq!(names(&metrics), names(&untouched));
    assert_eq!(
        series(&metrics, "usercert_atlas_requests_total{operation=\"get_user\",code=\"other\"}")[0].rsplit(' ').next(),
        Some("1")
    );
}

#[test]
fn the_upper_bounds_reach_from_the_shortest_to_the_longest() {
    let metrics = Metrics::default();
    let bounds: Vec<f64> = series(&metrics, "usercert_reconcile_duration_seconds_bucket")
        .iter()
        .filter_map(|line| line.split('"').nth(1)?.parse().ok())
        .filter(|bound: &f64| bound.is_finite())
        .collect();
    assert!(bounds[0] <= 0.001 && bounds.last().unwrap() > &720.0, "{bounds:?}");
    assert!(bounds.windows(2).all(|pair| pair[1] / pair[0] < 1.6));
}

/// A row of the table in docs/metrics.md for each family of this text.
fn rows(text: &str) -> BTreeMap<String, String> {
    let told = |keyword: &str, family: &str| {
        let prefix = format!("# {keyword} {family} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    };
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    families
        .map(|(family, kind)| {
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            let name = if suffixes.len() == 1 { format!("{family}{}", suffixes[0]) } else { family.to_owned() };
            let sample = format!("{family}{}", suffixes[0]);
            let is_sample = |line: &&str| line.starts_with(&format!("{sample} ")) || line.starts_with(&format!("{sample}{{"));
            let line = text.lines().find(is_sample).unwrap_or_else(|| panic!("{name} has no series to show its labels"));
            let labels: Vec<String> = line
                .split(['{', ',', '}'])
                .filter_map(|part| Some(format!("`{}`", part.split_once("=\"")?.0)))
                .filter(|label| label != "`le`")
                .collect();
            let help = told("HELP", family);
            let meaning = help.trim_end_matches('.');
            (name.clone(), format!("| `{name}` | {kind} | {} | {} | {meaning} |", labels.join(", "), told("UNIT", family)))
        })
        .collect()
}

#[test]
fn the_documentation_has_a_row_for_each_metric_and_no_other() {
    let mut expected = BTreeMap::new();
    for certificates in [CertificateSeries::Each, CertificateSeries::Totals] {
        let in_hours = |hours: i64| Timestamp::now().checked_add(jiff::SignedDuration::from_hours(hours)).ok();
        let overdue = CertificateFigures { not_after: in_hours(1), renewal_time: in_hours(-2), ..good("overdue") };
        let (metrics, _scope) = telling(certificates, Leadership::alone(None), vec![troubled("orders"), overdue]);
        expected.extend(rows(&metrics.encode().unwrap()));
    }
    let page = include_str!("../../../docs/metrics.md");
    let is_row = |line: &&str| ["| `usercert_", "| `process_"].iter().any(|prefix| line.starts_with(prefix));
    let found: BTreeSet<&str> = page.lines().filter(is_row).collect();
    let expected: BTreeSet<&str> = expected.values().map(String::as_str).collect();
    let (missing, wrong): (Vec<_>, Vec<_>) = (expected.difference(&found).collect(), found.difference(&expected).collect());
    assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nwrong or too much: {wrong:#?}");
}

/// `cargo test -p usercert-operator-runtime --lib scrape -- --nocapture` prints what a scrape of many certificates takes.
#[test]
fn a_scrape_of_ten_thousand_certificates_takes_few_bytes_for_each() {
    let certificates: Vec<_> = (0..10_000).map(|number| good(&format!("certificate-{number}"))).collect();
    for (what, most) in [(CertificateSeries::Each, 1024), (CertificateSeries::Totals, 16)] {
        let (without, _scope) = telling(what, Leadership::alone(None), Vec::new());
        let (metrics, _scope) = telling(what, Leadership::alone(None), certificates.clone());
        let started = Instant::now();
        let bytes = (metrics.encode().unwrap().len() - without.encode().unwrap().len()) / certificates.len();
        println!("{what:?}: {bytes} bytes of text for each certificate, {:?} for all", started.elapsed());
        assert!(bytes <= most);
    }
}
