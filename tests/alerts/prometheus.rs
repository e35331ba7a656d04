//! A real Prometheus that scrapes the operator with the rules that the chart renders.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use usercert_test_support::control_plane::{Supervised, tool};

/// Longer than a certificate of a rollout takes to reach the pods.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a scrape that was missed changes is as it was after so long.
const MOMENT: Duration = Duration::from_secs(15);

/// Two scrapes and two looks at the rules.
const STEADY: Duration = Duration::from_secs(2);

pub struct Prometheus {
    url: String,
    port_of_operator: u16,
    port_of_another: u16,
    started: jiff::Timestamp,
    _process: Supervised,
}

/// What identifies an alert: its name, and labels that it has among others.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub alert: &'static str,
    pub labels: Vec<(&'static str, String)>,
}

impl Prometheus {
    /// One that scrapes the operator and evaluates these rule groups, both every second. It looks for another one too, which is not there by
    /// itself.
    pub async fn start(folder: &Path, groups: &Value, [port_of_operator, port_of_another, port]: [u16; 3]) -> Self {
        let targets = [port_of_operator, port_of_another].map(|port| format!("127.0.0.1:{port}"));
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{
                "job_name": "usercert-operator", "honor_labels": true,
                "static_configs": [{ "targets": targets, "labels": { "namespace": "usercert-system" } }],
            }],
        });
        std::fs::write(folder.join("rules.yaml"), groups.to_string()).unwrap();
        Self { port_of_operator, port_of_another, ..Self::start_with(folder, &configuration, port).await }
    }

    /// One with this configuration, once a scrape has succeeded.
    pub async fn start_with(folder: &Path, configuration: &Value, port: u16) -> Self {
        // JSON is YAML.
        std::fs::write(folder.join("prometheus.yaml"), configuration.to_string()).unwrap();
        let arguments = [
            format!("--config.file={}", folder.join("prometheus.yaml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let log = folder.join("prometheus.log");
        let process = Supervised::spawn(&tool("prometheus").unwrap(), &arguments, &[], &log).unwrap();
        let (url, started) = (format!("http://127.0.0.1:{port}"), jiff::Timestamp::now());
        let prometheus = Self { url, port_of_operator: 0, port_of_another: 0, started, _process: process };
        let since = Instant::now();
        while prometheus.query("up == 1").await.is_empty() {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            let targets = prometheus.get("targets").await;
            assert!(since.elapsed() < Duration::from_secs(30), "the operator is not scraped: {targets:?}\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        prometheus
    }

    /// Where it looks for the operator.
    pub fn port_of_operator(&self) -> u16 {
        self.port_of_operator
    }

    /// Where it looks for another one.
    pub fn port_of_another(&self) -> u16 {
        self.port_of_another
    }

    /// The `data` of an answer with success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer: Value = reqwest::get(format!("{}/api/v1/{path}", self.url)).await.ok()?.json().await.ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The alerts that fire.
    pub async fn firing(&self) -> Vec<Value> {
        let alerts = self.get("alerts").await.unwrap()["alerts"].as_array().unwrap().clone();
        alerts.into_iter().filter(|alert| alert["state"] == "firing").collect()
    }

    /// The alert, if it fires.
    pub async fn find(&self, wanted: &Wanted) -> Option<Value> {
        self.firing().await.into_iter().find(|alert| {
            alert["labels"]["alertname"] == wanted.alert
                && wanted.labels.iter().all(|(name, value)| alert["labels"][name] == value.as_str())
        })
    }

    /// Whether the alert fires now, and goes on. A scrape that a slow machine misses may have it resolve for a moment.
    pub async fn fires_still(&self, wanted: &Wanted) -> bool {
        within(MOMENT, async || self.find(wanted).await.is_some()).await
    }

    /// Whether no alert fires now, and none begins. A scrape that a slow machine misses may have one fire for a moment.
    pub async fn is_calm(&self) -> bool {
        within(MOMENT, async || self.firing().await.is_empty()).await
    }

    /// Waits until an alert fires (or does not); the alert, and how many seconds after `since` that was.
    pub async fn until(&self, wanted: &Wanted, fires: bool, since: Instant) -> (Option<Value>, f64) {
        loop {
            let found = self.find(wanted).await;
            if found.is_some() == fires {
                return (found, since.elapsed().as_secs_f64());
            }
            if since.elapsed() > PATIENCE {
                let metrics = self.query("{__name__=~\"usercert_.*\"} != 0").await;
                panic!("{wanted:?} does not {}: {:#?}\n{metrics}", if fires { "fire" } else { "resolve" }, self.firing().await);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The series of a query, for people.
    pub async fn query(&self, expression: &str) -> String {
        let data = self.get(&format!("query?query={}", encoded(expression))).await.unwrap_or_default();
        let mut text = String::new();
        for series in data["result"].as_array().into_iter().flatten() {
            writeln!(text, "{} {}", series["metric"], series["value"][1]).unwrap();
        }
        text
    }

    /// How many series a query had with a number at any time since the start; `Err` if Prometheus does not understand it. What is not finite, such as
    /// a quantile of nothing, is no number.
    pub async fn finite_series_of(&self, expression: &str) -> Result<usize, String> {
        let (start, end) = (self.started.as_second(), jiff::Timestamp::now().as_second());
        let path = format!("query_range?query={}&start={start}&end={end}&step=1", encoded(expression));
        let answer: Value = reqwest::get(format!("{}/api/v1/{path}", self.url)).await.unwrap().json().await.unwrap();
        if answer["status"] == "success" {
            let is_finite = |sample: &Value| sample[1].as_str().unwrap().parse::<f64>().unwrap().is_finite();
            let series = answer["data"]["result"].as_array().unwrap().iter();
            Ok(series.filter(|series| series["values"].as_array().unwrap().iter().any(is_finite)).count())
        } else {
            Err(answer["error"].to_string())
        }
    }
}

/// Whether this begins to hold within the limit and then holds for [`STEADY`], so that what comes and goes does not.
async fn within(limit: Duration, question: impl AsyncFn() -> bool) -> bool {
    let started = Instant::now();
    let mut since = None;
    while started.elapsed() < limit {
        if question().await {
            let begun: Instant = *since.get_or_insert_with(Instant::now);
            if begun.elapsed() >= STEADY {
                return true;
            }
        } else {
            since = None;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    false
}

fn encoded(expression: &str) -> String {
    url::form_urlencoded::byte_serialize(expression.as_bytes()).collect()
}
