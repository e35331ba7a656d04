//! What a kubelet tells of the pods of a namespace: each is taken up at once, and ready unless it is broken.

use std::{
    collections::BTreeMap,
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
    troubles: Troubles,
    task: AbortHandle,
}

/// What keeps the pods of an app, by its name, from being ready.
type Troubles = Arc<Mutex<BTreeMap<String, Trouble>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    /// No new pod becomes ready; those that are stay so.
    Broken,
    /// New pods are taken up, and no container of them starts.
    Waits,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// One whose clock is the operator's.
    pub fn start(client: Client, namespace: &str, now: impl Fn() -> Timestamp + Send + 'static) -> Self {
        let troubles = Troubles::default();
        let (pods, seen) = (Api::<Pod>::namespaced(client, namespace), Arc::clone(&troubles));
        let run = async move {
            loop {
                if let Ok(list) = pods.list(&ListParams::default()).await {
                    for pod in &list.items {
                        let app = pod.labels().get("app").cloned().unwrap_or_default();
                        let trouble = seen.lock().unwrap().get(&app).copied();
                        tell(&pods, pod, trouble, now()).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        Self { troubles, task: tokio::spawn(run).abort_handle() }
    }

    pub fn break_new_pods(&self, app: &str) {
        self.troubles.lock().unwrap().insert(app.to_owned(), Trouble::Broken);
    }

    pub fn have_new_pods_wait(&self, app: &str) {
        self.troubles.lock().unwrap().insert(app.to_owned(), Trouble::Waits);
    }

    pub fn mend(&self, app: &str) {
        self.troubles.lock().unwrap().remove(app);
    }
}

async fn tell(pods: &Api<Pod>, pod: &Pod, trouble: Option<Trouble>, now: Timestamp) {
    let status = pod.status.as_ref();
    let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let was_ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    if started.is_some() && (was_ready || trouble.is_some()) {
        return;
    }
    let (is_ready, runs) = (trouble.is_none(), trouble != Some(Trouble::Waits));
    let ready = if is_ready { "True" } else { "False" };
    // Controllers compare it with their own clock, which is not the operator's.
    let since = Timestamp::now().to_string();
    let conditions =
        ["Ready", "ContainersReady"].map(|type_| json!({ "type": type_, "status": ready, "lastTransitionTime": since }));
    let state = if runs {
        json!({ "running": { "startedAt": now.to_string() } })
    } else {
        json!({ "waiting": { "reason": "ContainerCreating" } })
    };
    let container =
        json!({ "name": "main", "image": "none", "imageID": "", "ready": is_ready, "restartCount": 0, "state": state });
    let status = json!({
        "phase": if runs { "Running" } else { "Pending" }, "startTime": started.unwrap_or(now).to_string(),
        "conditions": conditions, "containerStatuses": [container],
    });
    let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await;
}
