//! What a kubelet tells of the pods of a namespace: each is taken up at once, and ready unless it is broken.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::task::AbortHandle;

pub struct Kubelet {
    broken: Arc<Mutex<BTreeSet<String>>>,
    task: AbortHandle,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// One whose clock is the operator's.
    pub fn start(client: Client, namespace: &str, now: impl Fn() -> Timestamp + Send + 'static) -> Self {
        let broken = Arc::<Mutex<BTreeSet<String>>>::default();
        let (pods, seen) = (Api::<Pod>::namespaced(client, namespace), Arc::clone(&broken));
        let run = async move {
            loop {
                if let Ok(list) = pods.list(&ListParams::default()).await {
                    for pod in &list.items {
                        let app = pod.labels().get("app").cloned().unwrap_or_default();
                        let is_ready = !seen.lock().unwrap().contains(&app);
                        tell(&pods, pod, is_ready, now()).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        Self { broken, task: tokio::spawn(run).abort_handle() }
    }

    /// From now on no pod of this app becomes ready, and those that are stay so.
    pub fn break_new_pods(&self, app: &str) {
        self.broken.lock().unwrap().insert(app.to_owned());
    }

    pub fn mend(&self, app: &str) {
        self.broken.lock().unwrap().remove(app);
    }
}

async fn tell(pods: &Api<Pod>, pod: &Pod, is_ready: bool, now: Timestamp) {
    let status = pod.status.as_ref();
    let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let was_ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    if started.is_some() && (was_ready || !is_ready) {
        return;
    }
    let ready = if is_ready { "True" } else { "False" };
    // Controllers compare it with their own clock, which is not the operator's.
    let since = Timestamp::now().to_string();
    let conditions = json!([
        { "type": "Ready", "status": ready, "lastTransitionTime": since },
        { "type": "ContainersReady", "status": ready, "lastTransitionTime": since },
    ]);
    let started = started.unwrap_or(now);
    let patch = json!({ "status": { "phase": "Running", "startTime": started.to_string(), "conditions": conditions } });
    let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
}
