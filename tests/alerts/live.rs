//! Each alert, made to fire by breaking what it is about, and to resolve by mending it: the real program on a real API server, scraped by a real
//! Prometheus with the rules of the chart. Times and windows are shortened by the chart's own values.

mod atlas;
mod objects;
mod operator;
mod secure;
mod totals;

use std::{
    collections::BTreeSet,
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use usercert_test_support::{
    atlas::{DigestAlgorithm, RateLimit, X509Type},
    control_plane::free_ports,
};

use self::operator::Operator;
use crate::{
    chart::{render, rules},
    dashboard::queries,
    harness::{self, Cluster, Options, Shop},
    prometheus::{Prometheus, Wanted},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start_without_operator(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

/// A line of the table.
struct Row {
    alert: &'static str,
    broken: &'static str,
    fired: f64,
    mended: &'static str,
    resolved: f64,
}

/// What was broken, and since when.
struct Break {
    broken: &'static str,
    since: Instant,
}

impl Break {
    fn now(broken: &'static str) -> Self {
        Self { broken, since: Instant::now() }
    }

    /// Waits until all of the alerts fire. What they say must be filled in.
    async fn fires(self, prometheus: &Prometheus, wanted: &[Wanted]) -> Vec<(Wanted, Self, f64)> {
        let mut fired = Vec::new();
        for wanted in wanted {
            let (alert, seconds) = prometheus.until(wanted, true, self.since).await;
            for annotation in ["summary", "description"] {
                let text = alert.as_ref().unwrap()["annotations"][annotation].as_str().unwrap().to_owned();
                assert!(!text.contains("{{") && !text.contains("no value"), "{wanted:?}: {text}");
                assert!(annotation == "description" || !text.contains(" /"), "no namespace: {text}");
            }
            fired.push((wanted.clone(), Self { ..self }, seconds));
        }
        for wanted in wanted {
            assert!(prometheus.fires_still(wanted).await, "{wanted:?} has resolved by itself, before anything was mended");
        }
        fired
    }
}

/// Waits until the alerts have resolved after it was mended now.
async fn resolves(prometheus: &Prometheus, mended: &'static str, fired: Vec<(Wanted, Break, f64)>) -> Vec<Row> {
    let since = Instant::now();
    let mut rows = Vec::new();
    for (wanted, Break { broken, .. }, fired) in fired {
        let (_, resolved) = prometheus.until(&wanted, false, since).await;
        rows.push(Row { alert: wanted.alert, broken, fired, mended, resolved });
    }
    rows
}

fn alert(alert: &'static str, labels: &[(&'static str, &str)]) -> Wanted {
    Wanted { alert, labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect() }
}

/// The alert about an object of this shop.
fn about(name: &'static str, shop: &Shop, object: &str) -> Wanted {
    alert(name, &[("namespace", &shop.namespace), ("name", object)])
}

/// The rules of the chart with short times.
fn short_rules() -> Value {
    let mut alerts: serde_json::Map<String, Value> =
        rules().iter().map(|rule| (rule.alert.clone(), json!({ "for": "1s", "keep_firing_for": "0s" }))).collect();
    let mut set = |name: &str, field: &str, value: Value| alerts[name][field] = value;
    set("UsercertRenewalOverdue", "threshold", json!(2));
    // A year less 20 seconds, where a client secret lives for a year: one that is older than 20 seconds is near its end.
    set("UsercertCredentialsExpireSoon", "threshold", json!(365 * 86_400 - 20));
    // Right after a renewal the old certificate has about as much time left as the new one.
    set("UsercertRolloutLate", "threshold", json!(2));
    set("UsercertOperatorRestarting", "threshold", json!(1));
    for (name, window) in [
        ("UsercertAtlasUnavailable", "45s"),
        ("UsercertWatchesFailing", "10s"),
        ("UsercertReconcilesFailing", "15s"),
        ("UsercertOperatorRestarting", "30s"),
    ] {
        set(name, "window", json!(window));
    }
    for rule in rules().iter().filter(|rule| rule.expr.contains("[15m]") && rule.alert != "UsercertAtlasUnavailable") {
        set(&rule.alert, "window", json!("5s"));
    }
    let values = json!({ "prometheusRule": { "enabled": true, "alerts": alerts } });
    render("templates/prometheus-rule.yaml", &values).unwrap()["spec"].clone()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and needs prometheus: `make alerts` builds and runs it, as does `make test`"]
async fn each_alert_fires_when_something_breaks_and_resolves_when_it_is_mended() {
    let shop = Shop::open(&CLUSTER, "alerts").await;
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports().unwrap();
    let mut operator = Operator::start(&shop, folder.path(), ports[0], &[]).await;
    let prometheus = Prometheus::start(folder.path(), &short_rules(), ports).await;

    shop.cluster.atlas.set_rate_limit(Some(RateLimit { capacity: 500, refill_per_minute: 500 }), Duration::ZERO);
    shop.atlas_issuer().await;
    shop.ca_issuer(3650).await;
    for (name, issuer) in [("from-atlas", "atlas"), ("from-ca", "ca")] {
        shop.cluster.atlas.add_user(&shop.project, name, X509Type::Managed);
        shop.certificate(name, issuer, json!({})).await;
        shop.until_ready(name).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(prometheus.is_calm().await, "nothing is broken, and this fires: {:#?}", prometheus.firing().await);

    let mut rows = Box::pin(objects::all(&prometheus)).await;
    rows.extend(atlas::all(&prometheus).await);
    rows.extend(operator::all(&prometheus, &shop, &mut operator, folder.path()).await);
    rows.extend(operator::restarting(&prometheus, &shop, &mut operator, folder.path()).await);
    rows.extend(totals::all(&prometheus, &shop, &mut operator, folder.path()).await);
    let dashboard = unanswered_queries(&prometheus).await;

    print(&rows);
    assert!(dashboard.is_empty(), "queries of the dashboard without data: {dashboard:#?}");
    println!("all {} queries of the dashboard returned data", queries().len());
    let shown: BTreeSet<&str> = rows.iter().map(|row| row.alert).collect();
    let all = rules();
    assert_eq!(shown, all.iter().map(|rule| rule.alert.as_str()).collect(), "each alert has fired and resolved");
}

/// The queries of the dashboard that had no data at any time.
async fn unanswered_queries(prometheus: &Prometheus) -> Vec<String> {
    let mut unanswered = Vec::new();
    for query in queries() {
        match prometheus.finite_series_of(&query.expression).await {
            Ok(0) => unanswered.push(format!("{}: {}", query.panel, query.expression)),
            Err(error) => unanswered.push(format!("{}: {}: {error}", query.panel, query.expression)),
            Ok(_) => {}
        }
    }
    unanswered
}

fn print(rows: &[Row]) {
    println!("{:32} {:58} {:>9}  {:50} {:>11}", "alert", "what was broken", "fires (s)", "what was mended", "resolves (s)");
    for Row { alert, broken, fired, mended, resolved } in rows {
        println!("{alert:32} {broken:58} {fired:9.1}  {mended:50} {resolved:11.1}");
    }
}
