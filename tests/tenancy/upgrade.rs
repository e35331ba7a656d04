//! An upgrade from release 0.1.0: nothing is issued and no Secret is written, and what a rule of today refuses says so once.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use usercert_operator::api::{ClusterCertificateIssuer, DatabaseUserCertificate};
use usercert_test_support::atlas::X509Type;

use crate::{
    authority::{Authority, P256},
    harness::{self, OPERATOR, Shop},
    patterns::{replace_definition, until_stored, without_rules},
    stage::Stage,
};

const NAMESPACE: &str = "upgraded";
const CHAINS: &str = "upgraded-chains";

pub async fn what_works_stays_in_service_and_what_is_refused_now_says_so_once(stage: &'static Stage) {
    let shop = stage.tenant(NAMESPACE).await;
    let namespaces = json!({ "names": [NAMESPACE] });
    for issuer in ["kept", "subjects", "list", "members"] {
        stage.cluster_issuer(&format!("upgraded-{issuer}"), json!({}), json!({ "namespaces": namespaces })).await;
        let reference = json!({ "kind": "ClusterCertificateIssuer", "name": format!("upgraded-{issuer}") });
        let spec = json!({ "issuerRef": reference, "subject": "CN=mongo-0,OU=members,O=Acme" });
        shop.certificate(issuer, "", spec).await;
        shop.until_ready(issuer).await;
    }
    shop.atlas_issuer().await;
    shop.cluster.atlas.add_user(&shop.project, "endpoint", X509Type::Managed);
    shop.certificate("endpoint", "atlas", json!({})).await;
    shop.until_ready("endpoint").await;
    // A CA honours no months, so that only a person can help.
    let reference = json!({ "kind": "ClusterCertificateIssuer", "name": "upgraded-kept" });
    shop.certificate("stalled", "", json!({ "issuerRef": reference, "monthsUntilExpiration": 3 })).await;
    shop.until("stalled", "Stalled", "True InvalidSpec").await;
    shop.assert_quiet().await;
    let secrets = shop.secrets_by_version().await;

    // What 0.1.0 let be stored, and took for allowed; it had fewer conditions.
    shop.cluster.kill_operator();
    let admin = stage.admin().await;
    let mut conditions = shop.status("stalled").await.conditions;
    conditions.retain(|condition| condition.type_ != "Stalled");
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    let objects = Api::<DatabaseUserCertificate>::namespaced(admin.clone(), NAMESPACE);
    objects.patch_status("stalled", &PatchParams::default(), &patch).await.unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(admin.clone());
    let strict = definitions.get(crate::patterns::DEFINITION).await.unwrap();
    replace_definition(&definitions, without_rules(&strict)).await;
    for (issuer, change) in [
        ("subjects", json!({ "allow": { "usernames": ["{{namespace}}.*"] } })),
        ("list", json!({ "allow": { "usernames": ["{{namespace}}-*", "*"] } })),
        ("members", json!({ "ca": { "forbiddenSubjects": ["OU=members,O=Acme"] } })),
    ] {
        let issuers = Api::<ClusterCertificateIssuer>::all(admin.clone());
        until_stored(&issuers, &format!("upgraded-{issuer}"), &json!({ "spec": change })).await;
    }
    replace_definition(&definitions, strict).await;
    let mut elsewhere = shop.atlas_issuer_manifest("v2");
    elsewhere["spec"]["atlas"]["endpoint"] = json!("https://127.0.0.2:9");
    shop.apply(elsewhere).await;
    let before = writes(&shop).len();
    shop.cluster.start_operator().await;
    for (name, reason) in [
        ("subjects", "IssuerNotAllowed"),
        ("list", "InvalidSpec"),
        ("members", "IssuerNotAllowed"),
        ("endpoint", "EndpointNotAllowed"),
    ] {
        shop.until(name, "Issuing", &format!("False {reason}")).await;
    }
    shop.until("stalled", "Stalled", "True InvalidSpec").await;
    shop.assert_quiet().await;
    for name in ["kept", "subjects", "list", "members", "endpoint"] {
        assert_eq!(shop.condition(name, "Ready").await, "True Issued", "{name}");
    }
    assert_eq!(shop.secrets_by_version().await, secrets, "no Secret is written");
    let mut written = writes(&shop).split_off(before);
    written.sort();
    assert_eq!(
        written,
        ["endpoint", "list", "members", "stalled", "subjects"],
        "one status each, and none for what is allowed still"
    );
    nothing_new_is_signed(&shop, &["subjects", "list", "members", "endpoint"]).await;
    assert_eq!(shop.cluster.atlas.mints_of("endpoint").len(), 1);
    stage.record("upgrade", "what 0.1.0 allowed and is refused now", "Ready stays True, one status write, no Secret written");
}

pub async fn chains_that_do_not_verify_are_rebuilt_and_no_other_secret_is_written(stage: &'static Stage) {
    let shop = stage.tenant(CHAINS).await;
    let authority = Authority::new();
    let root = authority.ca("root", "root", "/CN=Acme", None, &[]);
    // Issued to itself by its names, and signed by another key: 0.1.0 took it for a root, and did not hand it on.
    let cut = authority.ca("cut", "cut", "/CN=Acme", Some(("root", "root")), &[]);
    for (name, file) in [("whole", format!("{root}{root}")), ("cut", cut)] {
        let key = authority.key(if name == "whole" { "root" } else { name }, P256);
        shop.apply_secret(&format!("{name}-ca"), &[("tls.crt", &file), ("tls.key", &key)]).await;
        shop.apply(json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": name },
            "spec": { "ca": { "secretName": format!("{name}-ca") } },
        }))
        .await;
        shop.certificate(name, name, json!({})).await;
        shop.until_ready(name).await;
    }
    shop.assert_quiet().await;
    shop.cluster.kill_operator();
    // As 0.1.0 left them: the root handed on where it stood twice, and the intermediate not.
    for (name, chain) in [("whole", Some(&root)), ("cut", None)] {
        let (certificate, key) = (shop.value(name, "tls.crt").await, shop.value(name, "tls.key").await);
        let leaf = certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
        let handed_on = leaf + chain.map_or("", String::as_str);
        let data = json!({ "tls.crt": handed_on, "tls-combined.pem": handed_on.clone() + &key });
        shop.patch_secret(name, json!({ "stringData": data })).await;
        let version = shop.secret(name).await.unwrap().metadata.resource_version;
        let status = json!({ "status": { "verified": { "chain": null, "resourceVersion": version } } });
        let objects = Api::<DatabaseUserCertificate>::namespaced(stage.admin().await.clone(), CHAINS);
        objects.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
    let (secrets, serial) = (shop.secrets_by_version().await, shop.status("cut").await.serial_number);
    let (before, requests) = (writes_in(&shop, CHAINS).len(), shop.cluster.requests_of_operator(CHAINS).len());
    shop.cluster.start_operator().await;
    harness::eventually("the chain is rebuilt", || async {
        authority.verifies(&shop.value("cut", "tls.crt").await, &root).is_ok().then_some(())
    })
    .await;
    shop.assert_quiet().await;
    let mut written = writes_in(&shop, CHAINS).split_off(before);
    written.sort();
    assert_eq!(written, ["cut", "cut", "whole"], "one Secret, and one status each");
    let read = shop.cluster.requests_of_operator(CHAINS).split_off(requests);
    let read = read.iter().filter(|request| *request == "get secrets").count();
    // The metadata of an issuer's Secret is read, if the namespace was being listed when it was first waited for.
    assert!(
        (5..=6).contains(&read),
        "each Secret once, the one that is written once more, and the Secrets of the two issuers: {read}"
    );
    assert_eq!(shop.secrets_by_version().await["whole"], secrets["whole"]);
    assert_eq!(shop.status("cut").await.serial_number, serial, "no new certificate");
    for name in ["whole", "cut"] {
        assert_eq!(shop.condition(name, "Ready").await, "True Issued");
    }
    stage.record(
        "upgrade",
        "a chain that 0.1.0 cut off",
        "the Secret is rebuilt without a new certificate, and no other written",
    );
}

/// The names of the objects whose status the operator wrote, and of the Secrets.
fn writes(shop: &Shop) -> Vec<String> {
    writes_in(shop, NAMESPACE)
}

fn writes_in(shop: &Shop, namespace: &str) -> Vec<String> {
    let audit = shop.cluster.control_plane.audit().unwrap();
    let ours = audit.into_iter().filter(|event| event.user == OPERATOR && event.namespace == namespace && event.is_write());
    ours.filter(|event| event.resource != "events" && event.resource != "certificateissuers/status")
        .map(|event| event.name)
        .collect()
}

async fn nothing_new_is_signed(shop: &Shop, names: &[&str]) {
    for name in names {
        let serial = shop.status(name).await.serial_number;
        let request: Value = json!({ "metadata": { "annotations": { "usercert.dev/renew-requested-at": "now" } } });
        shop.api::<DatabaseUserCertificate>().patch(name, &PatchParams::default(), &Patch::Merge(request)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(shop.status(name).await.serial_number, serial);
    }
}
