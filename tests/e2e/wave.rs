//! Workloads follow a renewal one after the other, and the operator's Pod is deleted meanwhile.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::command::until;

use crate::{
    cluster::{Cluster, SHOP},
    consumers::{self, CA_SECRET, Workload},
    operator,
    scenario::renewed,
    timeline::Timeline,
};

const CERTIFICATE: &str = "reports";

/// The kubelet's lag is waited for, and then each workload.
const WAVE_SECONDS: u64 = 240;

/// The workloads that use the Secret.
fn followers() -> impl Iterator<Item = &'static Workload> {
    consumers::WORKLOADS.iter().filter(|workload| workload.secrets.contains(&CA_SECRET))
}

pub async fn play(cluster: &Cluster) -> Result<(Timeline, String)> {
    let mut timeline = Timeline::new("workloads follow the renewal of reports:");
    cluster.kubectl(&["patch", "duc", CERTIFICATE, "--type=merge", "--patch", r#"{"spec":{"rollout":{"auto":true}}}"#]).await?;
    let all = followers().count();
    until("the running Pods have the present certificate", WAVE_SECONDS, async || is_rolled_out(cluster, all).await).await?;
    // The Pods that are replaced now have seen the files change.
    consumers::ensure_whole(cluster).await?;
    let before = generations(cluster).await?;
    let (written, serial) = renewed(cluster, CERTIFICATE, CA_SECRET, "for the wave", &mut timeline).await?;
    let mut known = until("the first workload is moved", WAVE_SECONDS, async || {
        Ok(Some(moved(cluster, &before, &serial).await?).filter(|moved| !moved.is_empty()))
    })
    .await?;
    // The Pod goes at once, for the next one is moved a second later.
    let deleted = operator::delete(cluster).await?;
    timeline.mark(Timestamp::now(), &format!("{} is moved", known.join(", ")));
    timeline.mark(Timestamp::now(), &format!("{deleted} is deleted"));
    let shown = cluster.kubectl(&["get", "duc", "-o", "wide"]).await?;
    println!("\n$ kubectl get duc -o wide\n{shown}");
    // The status counts those that are ready. On a slow machine another one may have been moved before this was seen, but not before the first was ready.
    let of_certificate = shown.lines().find(|line| line.starts_with(CERTIFICATE)).context("the certificate is not shown")?;
    let ready = (0..all).find(|ready| of_certificate.contains(&format!("{ready}/{all}")));
    let ready = ready.context("the status tells of another progress")?;
    ensure!(known.len() <= ready + 1, "{known:?} were moved and {ready} are ready: not one after the other");
    until("all workloads are moved", WAVE_SECONDS, async || {
        for workload in
            moved(cluster, &before, &serial).await?.into_iter().filter(|workload| !known.contains(workload)).collect::<Vec<_>>()
        {
            timeline.mark(Timestamp::now(), &format!("{workload} is moved"));
            known.push(workload);
        }
        is_rolled_out(cluster, all).await
    })
    .await?;
    timeline.mark(Timestamp::now(), "the status says that all workloads are on the new certificate");
    let leader = operator::other_leader(cluster, &deleted).await?;
    timeline.mark(Timestamp::now(), &format!("{leader} leads"));
    let sightings = consumers::all_see(cluster, CA_SECRET, &serial, 30).await?;
    let late = sightings.iter().find(|sighting| !sighting.first);
    ensure!(late.is_none(), "a Pod has the certificate without a restart: {late:?}");
    timeline.sightings(&sightings);
    for (workload, generation) in generations(cluster).await? {
        let changes = generation - before.get(&workload).context("a workload is new")?;
        ensure!(changes == 1, "the template of {workload} was changed {changes} times");
    }
    let seconds = timeline.seconds_since(written);
    Ok((timeline, format!("{all} workloads, each restarted once; the last Pod {seconds:.0} s after the Secret was written")))
}

/// The generation of each workload, which goes up with each change of its template.
async fn generations(cluster: &Cluster) -> Result<BTreeMap<String, i64>> {
    let mut generations = BTreeMap::new();
    for path in followers().map(Workload::path) {
        let generation = get(cluster, &path).await?["metadata"]["generation"].as_i64().context("no generation")?;
        generations.insert(path, generation);
    }
    Ok(generations)
}

/// The workloads whose templates name this certificate.
async fn moved(cluster: &Cluster, all: &BTreeMap<String, i64>, serial: &str) -> Result<Vec<String>> {
    let mut moved = Vec::new();
    for path in all.keys() {
        let annotations = get(cluster, path).await?["spec"]["template"]["metadata"]["annotations"].clone();
        let expected = format!("{CERTIFICATE}={serial}");
        if annotations["usercert.dev/serial-numbers"].as_str().is_some_and(|value| value.split(',').any(|one| one == expected))
        {
            moved.push(path.clone());
        }
    }
    Ok(moved)
}

/// Read by the client: a process for each would take longer than the operator rests between two workloads.
async fn get(cluster: &Cluster, path: &str) -> Result<Value> {
    let (kind, name) = path.split_once('/').context("not KIND/NAME")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    let workloads = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), SHOP, &resource);
    Ok(serde_json::to_value(workloads.get(name).await?)?)
}

/// Whether the status says of the certificate in it that all workloads have it.
async fn is_rolled_out(cluster: &Cluster, all: usize) -> Result<Option<()>> {
    let object: DatabaseUserCertificate = cluster.certificates().get(CERTIFICATE).await?;
    let status = object.status.unwrap_or_default();
    let is_true = status.conditions.iter().any(|condition| condition.type_ == "RolledOut" && condition.status == "True");
    let Some(rollout) = status.rollout else { return Ok(None) };
    let is_present = Some(&rollout.serial_number) == status.serial_number.as_ref()
        && rollout.observed_generation == object.metadata.generation;
    Ok((is_true && is_present && rollout.progress == format!("{all}/{all}")).then_some(()))
}
