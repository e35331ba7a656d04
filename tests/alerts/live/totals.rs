//! The same with `--certificate-metrics=totals`: whether an expired certificate leaves the others of its issuer to be seen, promtool tries.

use std::path::Path;

use super::{Break, CLUSTER, Row, alert, objects::certificate_near_its_end, operator::Operator, resolves};
use crate::{
    harness::Shop,
    prometheus::{Prometheus, Wanted},
};

/// About the issuers of this name. The namespace is that of the operator.
fn about(name: &'static str) -> Wanted {
    alert(name, &[("namespace", "usercert-system"), ("issuer", "CertificateIssuer/ca")])
}

pub async fn all(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path) -> Vec<Row> {
    operator.stop();
    *operator = Operator::start(shop, folder, prometheus.port_of_operator(), &["--certificate-metrics=totals"]).await;
    let ending = Shop::open(&CLUSTER, "totals").await;
    certificate_near_its_end(&ending).await;
    let broken = Break::now("totals: a certificate is not renewed");
    let mut soon = broken.fires(prometheus, &[about("UsercertCertificateExpiresSoon"), about("UsercertRenewalOverdue")]).await;
    let broken = Break::now("totals: it expires");
    let wanted = [about("UsercertCertificateExpired"), about("UsercertCertificateNotReady")];
    soon.extend(broken.fires(prometheus, &wanted).await);
    ending.replace_ca(3650).await;
    resolves(prometheus, "the Secret holds a new CA", soon).await
}
