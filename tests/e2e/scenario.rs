//! The steps, in their order.
//!
//! A step is a function that gives what the next steps need, and a sentence about what it saw. What belongs to one rotation goes into its timeline: it notes
//! whatever Pods tell, also Pods that were started meanwhile, whoever restarted them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{WatchEvent, WatchParams},
};
use tokio::sync::Notify;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{
    atlas::{Fault, Point},
    command::until,
    node::Isolated,
};

use crate::{
    cluster::{ATLAS_USER, Cluster},
    consumers::{self, ATLAS_SECRET, CA_SECRET, Sighting},
    operator,
    report::Report,
    timeline::Timeline,
    wave,
};

/// The kubelet looks at the Secrets of a Pod about once a minute (`syncFrequency`), up to half of it later.
const KUBELET_LAG: u64 = 120;

/// The certificates of the examples with their Secrets.
const CERTIFICATES: [(&str, &str); 2] = [("orders", ATLAS_SECRET), ("reports", CA_SECRET)];

/// This one is restarted by hand as soon as the Secret is written; the others are left to read their files, one of them in a projected volume.
const RESTARTED: &str = "StatefulSet/ledger";

/// Plays all of it, or with `wave_alone` only how workloads follow a renewal.
pub async fn play(place: &Isolated, wave_alone: bool) -> Result<()> {
    let mut report = Report::new();
    let played = if wave_alone { show_wave(place, &mut report).await } else { steps(place, &mut report).await };
    report.print();
    played
}

async fn show_wave(place: &Isolated, report: &mut Report) -> Result<()> {
    let cluster = &begin(place, report).await?;
    follow(cluster, report).await
}

async fn steps(place: &Isolated, report: &mut Report) -> Result<()> {
    let cluster = &begin(place, report).await?;
    let timelines = report.step("forced renewal, files change in running Pods", renew(cluster)).await?;
    timelines.into_iter().for_each(Timeline::print);
    follow(cluster, report).await?;
    report.step("operator's Pod deleted in the middle of a mint", delete_during_mint(cluster)).await?.print();
    report.step("operator killed in the middle of a mint", kill_during_mint(cluster)).await?.print();
    println!("\n$ kubectl get duc -o wide\n{}", cluster.kubectl(&["get", "duc", "-o", "wide"]).await?);
    report.step("helm uninstall", operator::uninstall(cluster)).await?;
    report.step("consumers after all of this", undisturbed(cluster)).await
}

async fn begin(place: &Isolated, report: &mut Report) -> Result<Cluster> {
    let cluster = report.step("a control plane and a node", start(place)).await?;
    report.step("helm install, Pod Security restricted", operator::install(&cluster)).await?;
    report.step("helm test, with the operator's own image", operator::test(&cluster)).await?;
    report.step("consumers and certificates at once", consume(&cluster)).await?;
    println!("\n$ kubectl get duc -o wide\n{}", cluster.kubectl(&["get", "duc", "-o", "wide"]).await?);
    println!("\n$ kubectl get pods\n{}", cluster.kubectl(&["get", "pods"]).await?);
    Ok(cluster)
}

async fn follow(cluster: &Cluster, report: &mut Report) -> Result<()> {
    report.step("workloads follow a renewal, operator's Pod deleted", wave::play(cluster)).await?.print();
    println!("\n$ kubectl get duc -o wide\n{}", cluster.kubectl(&["get", "duc", "-o", "wide"]).await?);
    Ok(())
}

async fn start(place: &Isolated) -> Result<(Cluster, String)> {
    let cluster = Cluster::start(place).await?;
    let nodes = cluster.run("kubectl", &["get", "nodes", "-o", "wide", "--no-headers"]).await?;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    Ok((cluster, words.join(" ")))
}

/// The Pods come first, and wait for their Secrets.
async fn consume(cluster: &Cluster) -> Result<((), String)> {
    cluster.apply("consumers.json", &consumers::manifests()).await?;
    operator::apply_examples(cluster).await?;
    for (certificate, secret) in CERTIFICATES {
        let serial = until(&format!("{certificate} is Ready"), 60, async || ready_serial(cluster, certificate).await).await?;
        consumers::all_see(cluster, secret, &serial, 150).await?;
    }
    for workload in &consumers::WORKLOADS {
        cluster.kubectl(&["rollout", "status", &workload.path(), "--timeout=180s"]).await?;
    }
    let workloads = consumers::WORKLOADS.iter().map(|workload| format!("{} of {}", workload.replicas, workload.path()));
    Ok(((), format!("{} read certificates whose keys fit", workloads.collect::<Vec<_>>().join(", "))))
}

async fn renew(cluster: &Cluster) -> Result<(Vec<Timeline>, String)> {
    let rotations = CERTIFICATES.map(|(certificate, secret)| rotation(cluster, certificate, secret));
    let rotations = futures::future::try_join_all(rotations).await?;
    consumers::ensure_whole(cluster).await?;
    let seen = rotations.iter().map(|(_, seen)| seen.as_str()).collect::<Vec<_>>().join("; ");
    Ok((rotations.into_iter().map(|(timeline, _)| timeline).collect(), seen))
}

/// Renews one certificate, from the request to the last Pod.
async fn rotation(cluster: &Cluster, certificate: &str, secret: &str) -> Result<(Timeline, String)> {
    let mut timeline = Timeline::new(&format!("the rotation of {certificate}:"));
    let (written, serial) = renewed(cluster, certificate, secret, "now", &mut timeline).await?;
    if secret == CA_SECRET {
        cluster.kubectl(&["rollout", "restart", RESTARTED]).await?;
        timeline.mark(Timestamp::now(), &format!("{RESTARTED} is restarted"));
        cluster.kubectl(&["rollout", "status", RESTARTED, "--timeout=180s"]).await?;
    }
    let sightings = consumers::all_see(cluster, secret, &serial, KUBELET_LAG).await?;
    let late = sightings.iter().find(|sighting| sighting.workload == RESTARTED && !sighting.first);
    ensure!(late.is_none(), "a Pod that started after the write of the Secret saw the old one first: {late:?}");
    for workload in consumers::WORKLOADS.iter().filter(|one| one.secrets.contains(&secret) && one.path() != RESTARTED) {
        let read = |sighting: &Sighting| sighting.workload == workload.path() && !sighting.first;
        ensure!(sightings.iter().any(read), "no running Pod of {} read the change", workload.path());
    }
    timeline.sightings(&sightings);
    let seen = format!("{certificate}: last Pod {:.0} s after the Secret was written", timeline.seconds_since(written));
    Ok((timeline, seen))
}

/// Renews one certificate. Gives when the Secret was written, and the serial number.
pub async fn renewed(
    cluster: &Cluster,
    certificate: &str,
    secret: &str,
    request: &str,
    timeline: &mut Timeline,
) -> Result<(Timestamp, String)> {
    let before = cluster.serial(certificate).await?;
    let version = cluster.secrets().get_metadata(secret).await?.resource_version().unwrap_or_default();
    timeline.mark(Timestamp::now(), "a renewal is requested by annotation");
    cluster.renew(certificate, request).await?;
    let written = secret_written(cluster, secret, &version).await?;
    timeline.mark(written, &format!("the Secret {secret} is written"));
    let serial = until("the status has the new serial number", 30, async || {
        Ok(cluster.serial(certificate).await?.filter(|serial| Some(serial) != before.as_ref()))
    });
    let serial = serial.await?;
    timeline.mark(Timestamp::now(), &format!("the status says {serial}"));
    Ok((written, serial))
}

/// When a watcher sees the Secret after this version.
async fn secret_written(cluster: &Cluster, secret: &str, version: &str) -> Result<Timestamp> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={secret}")).timeout(60);
    let secrets = cluster.secrets();
    let mut events = Box::pin(secrets.watch_metadata(&parameters, version).await?);
    while let Some(event) = events.try_next().await? {
        if matches!(event, WatchEvent::Modified(_)) {
            return Ok(Timestamp::now());
        }
    }
    anyhow::bail!("the Secret {secret} was not written within a minute")
}

/// The answer is on its way when the operator is told to end: it waits for it, and nothing is lost.
async fn delete_during_mint(cluster: &Cluster) -> Result<(Timeline, String)> {
    let mints = cluster.atlas.mints_of(ATLAS_USER).len();
    let mut timeline = Timeline::new("the operator's Pod is deleted in the middle of a mint:");
    mint_slowly(cluster, "deleted").await?;
    timeline.mark(Timestamp::now(), "Atlas has made the certificate, and answers 10 s later");
    let deleted = operator::delete(cluster).await?;
    timeline.mark(Timestamp::now(), &format!("{deleted} is deleted"));
    let minted = cluster.atlas.mints_of(ATLAS_USER);
    let serial = minted.last().context("nothing was minted")?.serial_hexadecimal();
    until("the certificate is in the Secret", 60, async || Ok(cluster.serial("orders").await?.filter(|now| *now == serial)))
        .await?;
    timeline.mark(Timestamp::now(), "the status names the certificate");
    let leader = operator::other_leader(cluster, &deleted).await?;
    timeline.mark(Timestamp::now(), &format!("{leader} leads"));
    let object = settled(cluster).await?;
    timeline.mark(Timestamp::now(), "Ready, and nothing under way");
    ensure!(cluster.atlas.mints_of(ATLAS_USER).len() == mints + 1, "more than one certificate was minted");
    ensure!(unaccounted(&object) == 0, "a certificate is unaccounted for although its answer was waited for");
    Ok((timeline, "1 minted, 0 lost".to_owned()))
}

/// The process ends at once: the one certificate is lost, it is counted, and the old one stays in service until the next one is there. The
/// container is started again in its Pod, so the process is known to have ended, and nothing is waited for.
async fn kill_during_mint(cluster: &Cluster) -> Result<(Timeline, String)> {
    let mints = cluster.atlas.mints_of(ATLAS_USER).len();
    let in_service = cluster.serial("orders").await?;
    let mut timeline = Timeline::new("the operator is killed in the middle of a mint:");
    mint_slowly(cluster, "killed").await?;
    timeline.mark(Timestamp::now(), "Atlas has made the certificate, and answers 10 s later");
    operator::kill()?;
    timeline.mark(Timestamp::now(), "SIGKILL");
    let object = until("the loss is counted", 90, async || {
        let object = cluster.certificates().get("orders").await?;
        Ok((unaccounted(&object) > 0).then_some(object))
    });
    let object = object.await?;
    timeline.mark(Timestamp::now(), "the container was started again, leads, and has counted the certificate");
    ensure!(unaccounted(&object) == 1, "{} certificates are unaccounted for instead of one", unaccounted(&object));
    until("the next certificate is in service", 90, async || {
        Ok(ready_serial(cluster, "orders").await?.filter(|now| in_service.as_ref() != Some(now)))
    })
    .await?;
    timeline.mark(Timestamp::now(), "Ready with the next certificate");
    let object = settled(cluster).await?;
    ensure!(unaccounted(&object) == 1, "{} certificates are unaccounted for at the end", unaccounted(&object));
    ensure!(cluster.atlas.mints_of(ATLAS_USER).len() == mints + 2, "one lost and one more were to be minted");
    Ok((timeline, "2 minted, 1 of them lost and counted; Ready with the next one".to_owned()))
}

/// Asks for a certificate whose answer takes ten seconds, and waits until it is made.
async fn mint_slowly(cluster: &Cluster, value: &str) -> Result<()> {
    let made = Arc::new(Notify::new());
    let told = Arc::clone(&made);
    cluster.atlas.observe(move |point, _| {
        if point == Point::Made {
            told.notify_one();
        }
    });
    cluster.atlas.fault_once(ATLAS_USER, Fault::Delay(Duration::from_secs(10)));
    cluster.renew("orders", value).await?;
    tokio::time::timeout(Duration::from_secs(30), made.notified()).await.context("Atlas was not asked within 30 seconds")
}

/// Waits until the certificate from Atlas is Ready and no claim stands.
async fn settled(cluster: &Cluster) -> Result<DatabaseUserCertificate> {
    until("orders is Ready with nothing under way", 60, async || {
        let object = cluster.certificates().get("orders").await?;
        let claimed = object.status.as_ref().is_some_and(|status| status.issuance.is_some());
        Ok((!claimed && is_ready(&object)).then_some(object))
    })
    .await
}

async fn undisturbed(cluster: &Cluster) -> Result<((), String)> {
    for (certificate, secret) in CERTIFICATES {
        let serial = cluster.serial(certificate).await?.context("no serial number in the status")?;
        consumers::all_see(cluster, secret, &serial, KUBELET_LAG).await?;
    }
    consumers::ensure_undisturbed(cluster).await?;
    Ok(((), "all Pods have the certificates of the statuses, none was restarted, no file was ever half written".to_owned()))
}

async fn ready_serial(cluster: &Cluster, certificate: &str) -> Result<Option<String>> {
    let object = cluster.certificates().get(certificate).await?;
    Ok(if is_ready(&object) { object.status.and_then(|status| status.serial_number) } else { None })
}

fn is_ready(object: &DatabaseUserCertificate) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn unaccounted(object: &DatabaseUserCertificate) -> i64 {
    let status = object.status.as_ref();
    status.and_then(|status| status.unaccounted_certificates.as_ref()).map_or(0, |unaccounted| unaccounted.count)
}
