//! Metrics by HTTPS, as a real Prometheus scrapes them with the token of its service account.

use std::time::{Duration, Instant};

use serde_json::json;
use usercert_test_support::control_plane::free_ports;

use super::{CLUSTER, operator::Operator};
use crate::{harness::Shop, prometheus::Prometheus};

/// How long it may take until both targets are as they should be.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus: `make alerts` builds and runs it, as does `make test`"]
async fn a_prometheus_scrapes_by_https_with_a_token_that_has_the_right_and_with_no_other() {
    let shop = Shop::open(&CLUSTER, "scraped").await;
    let folder = tempfile::tempdir().unwrap();
    let [http, https, port] = free_ports().unwrap();
    let https = format!("127.0.0.1:{https}");
    let arguments = ["--leader-elect=false", "--metrics-secure", "--metrics-secure-address", &https];
    let _operator = Operator::start(&shop, folder.path(), http, &arguments).await;
    shop.let_read_metrics("with").await;
    let mut jobs = Vec::new();
    for name in ["with", "without"] {
        let file = folder.path().join(name);
        std::fs::write(&file, shop.account(name).await).unwrap();
        jobs.push(json!({
            "job_name": name, "scheme": "https", "static_configs": [{ "targets": [https] }],
            "authorization": { "credentials_file": file },
            // The certificate is the one that is made at start, which nobody can verify.
            "tls_config": { "insecure_skip_verify": true },
        }));
    }
    let configuration = json!({ "global": { "scrape_interval": "1s", "scrape_timeout": "1s" }, "scrape_configs": jobs });
    let started = Instant::now();
    let prometheus = Prometheus::start_with(folder.path(), &configuration, port).await;

    // For some scrapes in a row.
    let wanted =
        "min_over_time(up{job=\"with\"}[5s]) == 1 and count_over_time(up{job=\"with\"}[5s]) >= 4 and usercert_leading == 1";
    while prometheus.query(wanted).await.is_empty() || prometheus.query("up{job=\"without\"}").await.is_empty() {
        let targets = prometheus.get("targets").await;
        assert!(started.elapsed() < PATIENCE, "{}\n{targets:#?}", prometheus.query("up").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(prometheus.query("max_over_time(up{job=\"without\"}[1h]) == 0").await.contains("without"));
    assert_eq!(prometheus.query("{job=\"without\", __name__=~\"usercert_.*\"}").await, "", "it is told nothing");
    let targets = prometheus.get("targets").await.unwrap()["activeTargets"].clone();
    for target in targets.as_array().unwrap() {
        let (job, error) = (target["labels"]["job"].as_str().unwrap(), target["lastError"].as_str().unwrap());
        let expected = if job == "with" { "" } else { "server returned HTTP status 403 Forbidden" };
        assert_eq!(error, expected, "{job}");
        println!("by HTTPS, account {job} the right to get /metrics: {} {error}", target["health"].as_str().unwrap());
    }
}
