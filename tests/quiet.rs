//! With nothing to do for two minutes and 100 certificates, the operator writes nothing, reads nothing, and asks Atlas nothing; nor does
//! it write when everything is looked at again, for whatever cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::default_trait_access, reason = "the parameters of requests are of no interest here")]

mod harness;

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use harness::{Cluster, OPERATOR, Options, Shop, eventually};
use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use usercert_operator::api::{DatabaseUserCertificate, condition};
use usercert_test_support::{
    atlas::{DigestAlgorithm, X509Type},
    control_plane::{repository, tool},
};

static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| harness::start(&Options { digest: DigestAlgorithm::Md5, namespaces: &[] }));

#[tokio::test]
async fn a_hundred_certificates_at_rest_cost_nothing() {
    let shop = Shop::open(&CLUSTER, "quiet").await;
    shop.ca_issuer(3650).await;
    shop.atlas_issuer().await;
    for number in 0..50 {
        shop.certificate(&format!("ca-{number}"), "ca", json!({})).await;
        let user = format!("atlas-{number}");
        shop.cluster.atlas.add_user(&shop.project, &user, X509Type::Managed);
        shop.certificate(&user, "atlas", json!({})).await;
    }
    eventually("all are ready", || async {
        let all = shop.certificates().await;
        (all.len() == 100 && all.iter().all(Shop::is_ready)).then_some(())
    })
    .await;
    assert_eq!(shop.cluster.atlas.mints().len(), 50);
    // The echoes of the last writes.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let requests = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        audit.into_iter().filter(|event| event.user == OPERATOR && event.verb != "watch").collect::<Vec<_>>()
    };
    let (before, asked) = (requests().len(), shop.cluster.atlas.requests().len());
    for elapsed in 0..12 {
        eprintln!("at rest for {} s of 120 s", elapsed * 10);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(requests()[before..], [], "but for watches, which the API server ends now and then");
    assert_eq!(shop.cluster.atlas.requests().len(), asked);
    eprintln!("100 certificates cost {before} requests to make and none in two minutes at rest");

    let hundred_passes = during(&shop, async || {
        for object in shop.certificates().await {
            shop.annotate(&object.metadata.name.unwrap(), "touched", "yes").await;
        }
    });
    assert_eq!(hundred_passes.await, [""; 0], "100 forced reconciles");
    let restart = during(&shop, async || {
        shop.cluster.kill_operator();
        shop.cluster.start_operator().await;
    });
    assert_eq!(restart.await, [""; 0], "a restart");
    let upgrade = during(&shop, async || {
        helm_upgrade(&shop);
        shop.cluster.kill_operator();
        shop.cluster.start_operator().await;
    });
    assert_eq!(upgrade.await, [""; 0], "an upgrade");
    assert_eq!(during(&shop, async || resync(&shop).await).await, [""; 0], "a resync");
    let only_status = |writes: &[String]| writes.iter().all(|write| write == "patch databaseusercertificates/status");
    let writes = during(&shop, async || delete_all_status(&shop).await).await;
    assert!(only_status(&writes) && writes.len() == 100, "all status deleted: {writes:?}");
    let writes = during(&shop, async || {
        shop.cluster.kill_operator();
        delete_all_status(&shop).await;
        shop.cluster.start_operator().await;
    })
    .await;
    assert!(only_status(&writes) && writes.len() == 100, "all status deleted while nobody looked: {writes:?}");

    let serials = serials(&shop).await;
    let restored = during(&shop, async || restore_backup(&shop).await).await;
    let (told, restored): (Vec<_>, Vec<_>) = restored.into_iter().partition(|write| write == "create events");
    assert_eq!(told.len(), 100, "each object whose Secret is another's is told of once: {:?}", reasons_of_events(&shop).await);
    assert!(only_status(&restored), "a backup is restored: {restored:?}");
    let adopted = during(&shop, async || {
        for object in shop.certificates().await {
            shop.annotate(&object.metadata.name.unwrap(), "usercert.dev/adopt-secret", "true").await;
        }
    });
    let adopted = adopted.await;
    assert_eq!(adopted.iter().filter(|write| *write == "patch secrets").count(), 100, "each Secret has a new owner");
    assert_eq!(self::serials(&shop).await, serials, "and the certificate that it had");
    assert!(shop.certificates().await.iter().all(Shop::is_ready));
    assert_eq!(shop.cluster.atlas.mints().len(), 50);
    retained_and_suspended_objects_cost_nothing_at_rest(&shop).await;
}

/// A changed policy costs each Secret one write and no read, and a restart knows all of them by their metadata and the status.
async fn retained_and_suspended_objects_cost_nothing_at_rest(shop: &Shop) {
    let (before, reads) = (serials(shop).await, reads_of_certificates(shop).await);
    let set = async |spec: serde_json::Value| {
        for object in shop.certificates().await {
            let patch = Patch::Merge(json!({ "spec": spec }));
            let name = object.metadata.name.unwrap();
            shop.api::<DatabaseUserCertificate>().patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
    };
    let writes = during(shop, async || set(json!({ "deletionPolicy": "Retain" })).await).await;
    let of = |what: &str| writes.iter().filter(|write| *write == what).count();
    assert_eq!((of("patch secrets"), of("create events")), (100, 100), "{writes:?}");
    assert!(of("patch databaseusercertificates/status") <= 200, "{writes:?}");
    let restart = during(shop, async || {
        shop.cluster.kill_operator();
        shop.cluster.start_operator().await;
    });
    assert_eq!(restart.await, [""; 0], "a restart with retained Secrets");
    let suspended = during(shop, async || set(json!({ "suspend": true })).await).await;
    assert!(suspended.iter().all(|write| write == "patch databaseusercertificates/status"), "{suspended:?}");
    let restart = during(shop, async || {
        shop.cluster.kill_operator();
        shop.cluster.start_operator().await;
    });
    assert_eq!(restart.await, [""; 0], "a restart with suspended objects");
    assert_eq!(reads_of_certificates(shop).await, reads, "no Secret of a certificate was read");
    assert_eq!(serials(shop).await, before);
    assert!(shop.certificates().await.iter().all(Shop::is_ready));
}

/// How often the operator has read the Secret of a certificate.
async fn reads_of_certificates(shop: &Shop) -> usize {
    let names: Vec<String> = shop.certificates().await.into_iter().map(|object| object.metadata.name.unwrap()).collect();
    let audit = shop.cluster.control_plane.audit().unwrap();
    let reads = audit.iter().filter(|event| event.user == OPERATOR && event.verb == "get" && event.resource == "secrets");
    reads.filter(|event| names.contains(&event.name)).count()
}

/// What the operator wrote during and after this; Atlas was not asked.
async fn during(shop: &Shop, action: impl AsyncFnOnce()) -> Vec<String> {
    let writes = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        // What meets a conflict writes nothing.
        let ours = audit.into_iter().filter(|event| event.user == OPERATOR && event.code != 409);
        let writes = ours.filter(|event| !["get", "list", "watch"].contains(&event.verb.as_str()));
        writes.map(|event| format!("{} {}", event.verb, event.resource)).collect::<Vec<_>>()
    };
    let (before, asked) = (writes().len(), shop.cluster.atlas.requests().len());
    action().await;
    let mut last = usize::MAX;
    while writes().len() != last {
        last = writes().len();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(shop.cluster.atlas.requests().len(), asked, "Atlas was asked");
    writes().split_off(before)
}

fn helm_upgrade(shop: &Shop) {
    let status = Command::new(tool("helm").unwrap())
        .args(["upgrade", "usercert-operator"])
        .arg(repository().join("charts/usercert-operator"))
        .args(["--namespace", "usercert-system", "--set", "replicaCount=0", "--set", "podLabels.new=version"])
        .env("KUBECONFIG", shop.cluster.control_plane.kubeconfig())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// All watches begin anew with a list.
async fn resync(shop: &Shop) {
    shop.cluster.advance(SignedDuration::from_mins(61));
    let lists = || {
        let audit = shop.cluster.control_plane.audit().unwrap();
        audit.iter().filter(|event| event.user == OPERATOR && event.verb == "list" && event.resource == "secrets").count()
    };
    let before = lists();
    eventually("the Secrets are listed anew", || async { (lists() > before).then_some(()) }).await;
}

async fn delete_all_status(shop: &Shop) {
    let api = shop.api::<DatabaseUserCertificate>();
    for object in shop.certificates().await {
        let nothing = Patch::Merge(json!({ "status": null }));
        api.patch_status(&object.metadata.name.unwrap(), &PatchParams::default(), &nothing).await.unwrap();
    }
}

/// The objects are made anew, without status and with other UIDs; their Secrets are as they were.
async fn restore_backup(shop: &Shop) {
    let api = shop.api::<DatabaseUserCertificate>();
    let objects = shop.certificates().await;
    for object in &objects {
        api.delete(object.metadata.name.as_ref().unwrap(), &DeleteParams::orphan()).await.unwrap();
    }
    eventually("all are gone", || async { shop.certificates().await.is_empty().then_some(()) }).await;
    for object in objects {
        let name = object.metadata.name.unwrap();
        let issuer = object.spec.issuer_ref.unwrap().name;
        shop.certificate(&name, &issuer, json!({})).await;
    }
    let message = "the Secret is not touched";
    eventually(message, || async {
        let all = shop.certificates().await;
        all.iter().all(|object| refused(object).is_some_and(|message| message.contains("adopt-secret=true"))).then_some(())
    })
    .await;
}

fn refused(object: &DatabaseUserCertificate) -> Option<&str> {
    let ready = condition(&object.status.as_ref()?.conditions, "Ready")?;
    (ready.reason == "SecretNotOwned").then_some(ready.message.as_str())
}

/// How many Events there are for each reason.
async fn reasons_of_events(shop: &Shop) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for event in shop.api::<Event>().list(&Default::default()).await.unwrap() {
        *reasons.entry(event.reason.unwrap_or_default()).or_default() += 1;
    }
    reasons
}

async fn serials(shop: &Shop) -> BTreeMap<String, Option<String>> {
    let serial = |object: DatabaseUserCertificate| (object.metadata.name.unwrap(), object.status.unwrap().serial_number);
    shop.certificates().await.into_iter().map(serial).collect()
}
