//! The same with `--certificate-metrics=totals`: whether an expired certificate leaves the others of its issuer to be seen, promtool tries.

use std::path::Path;

use super::{Break, CLUSTER, Row, alert, objects::certificate_of_a_ca_for, operator::Operator, resolves};
use crate::{
    harness::Shop,
    prometheus::{Prometheus, Wanted},
};

/// A certificate that is to be renewed in half a minute, cannot be, and expires in a minute. The operator that tells totals starts
/// meanwhile.
pub async fn certificate_near_its_end() -> Shop {
    let shop = Shop::open(&CLUSTER, "totals").await;
    certificate_of_a_ca_for(&shop, 60).await;
    shop
}

/// About the issuers of this name. The namespace is that of the operator.
fn about(name: &'static str) -> Wanted {
    alert(name, &[("namespace", "usercert-system"), ("issuer", "CertificateIssuer/ca")])
}

pub async fn all(prometheus: &Prometheus, shop: &Shop, operator: &mut Operator, folder: &Path, ending: Shop) -> Vec<Row> {
    operator.stop();
    *operator = Operator::start(shop, folder, prometheus.port_of_operator(), &["--certificate-metrics=totals"]).await;
    let broken = Break::now("totals: a certificate is not renewed");
    let mut soon = broken.fires(prometheus, &[about("UsercertCertificateExpiresSoon"), about("UsercertRenewalOverdue")]).await;
    let broken = Break::now("totals: it expires");
    let wanted = [about("UsercertCertificateExpired"), about("UsercertCertificateNotReady")];
    soon.extend(broken.fires(prometheus, &wanted).await);
    ending.replace_ca(3650).await;
    resolves(prometheus, "the Secret holds a new CA", soon).await
}
