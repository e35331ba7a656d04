//! Secrets that are taken over only on a word, and what becomes of their pairs.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use usercert_cli::exit::Exit;
use usercert_operator::{api::DatabaseUserCertificate, certificate::CertificatePair};
use usercert_test_support::{atlas::X509Type, evidence};

use super::{
    CLUSTER, Shop,
    changed::{expect_untouched, signed_by_ca},
    harness::eventually,
    tenant_who_may, usercert, usercert_ahead, usercert_with,
};

/// A Secret of another tool.
async fn tls_secret(shop: &Shop, name: &str, annotations: Value, entries: Value) {
    shop.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": name, "annotations": annotations }, "stringData": entries,
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_known_to_be_of_the_atlas_project_is_taken_over_on_a_word() {
    let shop = Shop::open(&CLUSTER, "othersigner").await;
    shop.atlas_issuer().await;
    shop.until_issuer("atlas", "True IssuerReady").await;
    let ca = shop.ca_issuer(3650).await;
    let user = shop.name("orders");
    shop.atlas.add_user(&shop.project, &user, X509Type::Managed);

    let (certificate, key) = signed_by_ca(&shop, &format!("/CN={user}")).await;
    tls_secret(&shop, "of-ca", json!({}), json!({ "tls.crt": certificate, "tls.key": key, "ca.crt": ca })).await;
    let other = "0123456789abcdef01234567";
    let mint = shop.atlas.mint_for(other, &user, shop.cluster.now() + SignedDuration::from_hours(24 * 60)).unwrap();
    tls_secret(&shop, "of-project", json!({}), json!({ "tls.crt": mint.certificate_pem, "tls.key": mint.key_pem })).await;

    let told = [
        ("of-ca", "CN=CA,O=Acme signed the certificate, which is no name that Atlas is known to sign with".to_owned()),
        ("of-project", format!("for the project {other} as it seems, and the issuer's project is {}", shop.project)),
    ];
    for (secret, expected) in &told {
        let before = shop.secret(secret).await.unwrap().metadata.resource_version;
        let migrate = ["migrate", secret, "--issuer", "atlas"];
        let shown = usercert(&shop, &migrate).await;
        shown.says(Exit::Attention, &["In the way", expected, "--accept-unknown-issuer to do it all the same"]);
        for flags in [&["--yes"][..], &["--yes", "--accept-new-certificate", "--accept-loss"]] {
            let refused = usercert(&shop, &[&migrate[..], flags].concat()).await;
            refused.says(Exit::CouldNotAsk, &["nothing was changed", expected]);
        }
        expect_untouched(&shop, secret, before.as_deref()).await;
    }

    let mints = shop.atlas.mints_of(&user).len();
    let accepted = ["migrate", "of-ca", "--issuer", "atlas", "--accept-unknown-issuer", "--accept-loss", "-o", "json"];
    let shown = usercert(&shop, &accepted).await;
    shown.says(Exit::Good, &[]);
    let told = shown.json();
    assert_eq!((&told["result"], &told["object"]["spec"]["keepPrevious"]), (&json!("WouldTakeOver"), &json!(true)));
    assert_eq!(
        (&told["obstacles"][0]["acceptedBy"], &told["obstacles"][0]["accepted"]),
        (&json!("--accept-unknown-issuer"), &json!(true))
    );
    let done = usercert(&shop, &[&accepted[..], &["--yes"]].concat()).await;
    done.says(Exit::Good, &[]);
    assert_eq!((&done.json()["result"], &done.json()["presentSerialNumber"]), (&json!("TakenOver"), &told["serialNumber"]));
    assert_eq!(shop.atlas.mints_of(&user).len(), mints, "a takeover mints nothing");

    assert_eq!(shop.value("of-ca", "tls.crt").await.trim(), certificate.trim());
    assert!(!shop.secret("of-ca").await.unwrap().data.unwrap().contains_key("ca.crt"), "it goes, as the preview has said");

    // The renewal brings a certificate of Atlas, and the pair that may be the one that works stays.
    usercert(&shop, &["renew", "of-ca", "--wait"]).await.says(Exit::Good, &["renewed: certificate"]);
    assert_ne!(shop.value("of-ca", "tls.crt").await.trim(), certificate.trim());
    assert_eq!(shop.value("of-ca", "previous-tls.crt").await.trim(), certificate.trim());
    expect_pair(&shop, "of-ca", "previous-").await;
}

/// The Secret holds a certificate with the key that fits it.
async fn expect_pair(shop: &Shop, secret: &str, prefix: &str) -> String {
    let certificate = shop.value(secret, &format!("{prefix}tls.crt")).await;
    let key = shop.value(secret, &format!("{prefix}tls.key")).await;
    let pair = CertificatePair::parse(certificate.as_bytes(), key.as_bytes()).unwrap();
    pair.facts().serial_number.to_string()
}

/// A certificate of the CA of the shop that is due for renewal, and that a server uses too.
async fn due_for_renewal(shop: &Shop) -> (String, String) {
    let ca_key = KeyPair::from_pem(&shop.value("ca", "tls.key").await).unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name = rcgen::DistinguishedName::new();
    for (type_, value) in [(DnType::OrganizationName, "Acme"), (DnType::CommonName, "CA")] {
        ca.distinguished_name.push(type_, DnValue::Utf8String(value.to_owned()));
    }
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(DnType::CommonName, "orders");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    leaf.subject_alt_names = vec![SanType::DnsName("orders.example.com".try_into().unwrap())];
    let date = |time: Timestamp| {
        let date = time.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    (leaf.not_before, leaf.not_after) = (date(shop.cluster.now() - days(80)), date(shop.cluster.now() + days(10)));
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, ca_key)).unwrap();
    evidence::secret(&key.serialize_pem());
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_that_is_accepted_stands_beside_the_former_pair() {
    let shop = Shop::open(&CLUSTER, "accepted").await;
    let ca = shop.ca_issuer(3650).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let (certificate, key) = due_for_renewal(&shop).await;
    tls_secret(&shop, "orders-tls", json!({}), json!({ "tls.crt": certificate, "tls.key": key, "ca.crt": ca })).await;
    let before = shop.secret("orders-tls").await.unwrap().metadata.resource_version;
    let former = expect_pair(&shop, "orders-tls", "").await;

    let migrate = ["migrate", "orders-tls", "--issuer", "ca"];
    let expected = ["has the names DNS:orders.example.com", "In the way", "for RenewalDue", "is for servers too"];
    let shown = usercert(&shop, &migrate).await;
    shown.says(Exit::Attention, &expected);
    shown.says(Exit::Attention, &["Give --yes --accept-loss --accept-new-certificate to do it all the same"]);
    // A clock that is wrong hides nothing: the API server's tells what is due.
    let sixty_days = SignedDuration::from_hours(24 * 60) + SignedDuration::from_mins(1);
    let behind = usercert_ahead(&shop, -sixty_days, &migrate).await;
    behind.says(Exit::Attention, &[expected[2], "this machine's clock is 60d behind the API server's"]);
    let renewed = shop.cluster.now() - SignedDuration::from_hours(2);
    shop.apply(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "late" },
        "spec": { "holderIdentity": "pod_1", "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string() },
    }))
    .await;
    let late =
        ["--operator-namespace", shop.namespace.as_str(), "--lease-name", "late", "--accept-new-certificate", "--accept-loss"];
    let late = usercert(&shop, &[&migrate[..], &late, &["--yes"]].concat()).await;
    late.says(Exit::CouldNotAsk, &["nothing was changed: the operator's clock is 2h behind the API server's"]);
    let one = [&migrate[..], &["--yes", "--accept-new-certificate"]].concat();
    usercert(&shop, &one).await.says(Exit::CouldNotAsk, &["nothing was changed", "is for servers too"]);
    expect_untouched(&shop, "orders-tls", before.as_deref()).await;

    let done = usercert(&shop, &[&one[..], &["--accept-loss"]].concat()).await;
    done.says(Exit::Good, &["/orders-tls has taken over the Secret orders-tls, and a new certificate"]);
    shop.until("orders-tls", "Issuing", "False Issued").await;
    assert!(shop.get("orders-tls").await.spec.keep_previous);
    assert_eq!(expect_pair(&shop, "orders-tls", "previous-").await, former, "the former pair works on");
    let present = expect_pair(&shop, "orders-tls", "").await;
    assert_ne!(present, former);
    assert_eq!(shop.status("orders-tls").await.serial_number, Some(present));
    let owners = shop.secret("orders-tls").await.unwrap().metadata.owner_references;
    assert_eq!(owners, None, "the way back leaves both");
    shop.delete::<DatabaseUserCertificate>("orders-tls").await;
    eventually("the object is gone", || async {
        shop.api::<DatabaseUserCertificate>().get_opt("orders-tls").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(expect_pair(&shop, "orders-tls", "previous-").await, former, "the way back leaves both");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_look_for_cert_managers_certificate_is_told_so_in_the_preview() {
    let shop = Shop::open(&CLUSTER, "blind").await;
    let ca = shop.ca_issuer(3650).await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let (certificate, key) = signed_by_ca(&shop, "/CN=orders").await;
    let annotations = json!({ "cert-manager.io/certificate-name": "orders" });
    tls_secret(&shop, "orders-tls", annotations, json!({ "tls.crt": certificate, "tls.key": key, "ca.crt": ca })).await;
    let rules = json!([
        { "apiGroups": ["usercert.dev"], "resources": ["databaseusercertificates"], "verbs": ["get", "create"] },
        { "apiGroups": ["usercert.dev"], "resources": ["certificateissuers"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"] },
    ]);
    let user = tenant_who_may(&shop, rules).await;
    let connection = ["kubectl-usercert", "--kubeconfig", user.to_str().unwrap(), "--namespace", &shop.namespace];
    let migrate = ["migrate", "orders-tls", "--issuer", "ca"];
    let expected = ["In the way", "you may not get certificates.cert-manager.io", "Change what is in the way"];
    usercert_with(&shop, &connection, &migrate).await.says(Exit::Attention, &expected);
    let refused = usercert_with(&shop, &connection, &[&migrate[..], &["--yes"]].concat()).await;
    refused.says(Exit::CouldNotAsk, &["nothing was changed", expected[1]]);

    shop.patch_secret("orders-tls", json!({ "metadata": { "annotations": { "cert-manager.io/certificate-name": null } } }))
        .await;
    let done = usercert_with(&shop, &connection, &[&migrate[..], &["--yes"]].concat()).await;
    done.says(Exit::Good, &["has taken over the Secret orders-tls, with certificate"]);
}
