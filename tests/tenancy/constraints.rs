//! A CA with name constraints signs nothing outside of them, and what is inside is served.

use serde_json::json;

use crate::{
    harness::{new_ca, openssl},
    stage::{Stage, refused},
};

/// `permitted;dirName:O=Acme`, encoded.
const PERMITTED: &str = "nameConstraints=critical,DER:3017a0153013a411300f310d300b060355040a0c0441636d65";

pub async fn what_the_name_constraints_of_the_ca_do_not_permit_is_not_signed(stage: &'static Stage) {
    let shop = stage.tenant("constrained").await;
    let (_, key) = new_ca(30);
    let arguments = ["req", "-x509", "-key", "/dev/stdin", "-days", "30", "-subj", "/O=Acme/CN=CA", "-addext", PERMITTED];
    let ca = openssl(&arguments, &key);
    shop.apply_secret("ca", &[("tls.crt", &ca), ("tls.key", &key)]).await;
    shop.apply(json!({
        "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": "ca" },
        "spec": { "ca": { "secretName": "ca" } },
    }))
    .await;
    shop.until_issuer("ca", "True IssuerReady").await;
    let outside = async {
        shop.certificate("outside", "ca", json!({ "subject": "CN=outside,O=Other" })).await;
        let got = refused(&shop, "outside", "IssuerNotAllowed").await;
        let expected = "the nameConstraints of the CA CN=CA,O=Acme permit only subjects below \"O=Acme\", and \"CN=outside,O=Other\" is not: change it";
        assert_eq!(shop.message("outside", "Ready").await, expected);
        got
    };
    stage.attempt(8, "subject CN=outside,O=Other of a CA that permits O=Acme", outside).await;

    shop.certificate("inside", "ca", json!({ "subject": "CN=inside,O=Acme" })).await;
    let issued = shop.until_ready("inside").await;
    let leaf = shop.value("inside", "tls.crt").await;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.pem");
    std::fs::write(&root, &ca).unwrap();
    let verify = ["verify", "-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile", root.to_str().unwrap()];
    openssl(&verify, &leaf);
    shop.certificate("inside", "ca", json!({ "subject": "CN=inside,O=Other" })).await;
    shop.until("inside", "Issuing", "False IssuerNotAllowed").await;
    assert_eq!(shop.status("inside").await.serial_number, issued.serial_number, "the Secret keeps what it has");
    shop.certificate("outside", "ca", json!({ "subject": "CN=outside,OU=apps,O=Acme" })).await;
    shop.until_ready("outside").await;
}
