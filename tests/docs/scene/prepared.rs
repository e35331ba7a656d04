//! What is there before the first command of a page.

use std::fs;

use serde_json::json;

use super::{OPERATOR_NAMESPACE, OWNER, SERVED_ALONE, Scene, issuer, tls_secret};
use crate::{
    harness::{PRIVATE_API_KEY, new_ca},
    page::{Page, has_extension},
};

impl Scene<'_> {
    /// What is there before the first command.
    pub(super) fn prepare(&self, page: &Page) {
        self.bash(&format!("kubectl config set-context --current --namespace={}", self.namespace));
        for block in &page.blocks {
            if let Some(file) = &block.save_as {
                let content = if has_extension(file, "yaml") { self.here(&block.code) } else { self.filled_in(&block.code) };
                self.write(file, &content);
            }
        }
        match self.page {
            "docs/install.md" => self.bash(&format!("kubectl create namespace {}", self.namespace)),
            "docs/start-ca.md" => {
                // The page that starts with Atlas has made it.
                self.bash(&format!("kubectl create namespace {}", self.namespace));
                self.write("server-ca.crt", &new_ca(3650).0);
            }
            "docs/uninstall.md" => self.beside_another_release(),
            "docs/start-atlas.md" => {}
            _ => self.open_shop(),
        }
        match self.page {
            "docs/from-cert-manager.md" => self.as_cert_manager_left_it(),
            "docs/from-a-cron-job.md" => self.as_a_cron_job_left_it(),
            "docs/from-terraform.md" => self.as_terraform_left_it(),
            "docs/cli.md" => self.with_a_cluster_issuer(),
            "docs/backup.md" => self.with_a_certificate_of_the_ca(),
            "docs/alerts.md" | "docs/security.md" => self.with_what_is_refused(),
            "docs/upgrade.md" => {
                self.with_a_retained_secret();
                self.with_a_user_name_that_is_a_distinguished_name();
            }
            _ => {}
        }
    }

    /// A namespace with an issuer at Atlas and the certificate `orders`, and a CA in a Secret and in files.
    fn open_shop(&self) {
        let (certificate, key) = new_ca(3650);
        self.write("ca.pem", &certificate);
        self.write("ca.key", &key);
        let (client, client_key) = self.signed("/CN=orders");
        self.write("client.pem", &format!("{client}{client_key}"));
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace } });
        let credentials = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "atlas-credentials" },
            "stringData": { "publicApiKey": self.public_key, "privateApiKey": PRIVATE_API_KEY } });
        let of_atlas = json!({ "atlas": {
            "projectId": self.project, "endpoint": self.stage.atlas.url(), "credentialsSecretRef": { "name": "atlas-credentials" },
        } });
        let orders = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "name": "orders", "labels": { "team": "orders" } },
            "spec": { "username": "orders", "issuerRef": { "name": "atlas" }, "secretName": "orders-mongodb" },
        });
        let ca = tls_secret("database-users-ca", &certificate, &key);
        self.apply(&[namespace, credentials, ca, issuer("atlas", &of_atlas), orders]);
        self.bash("kubectl wait --for=condition=Ready databaseusercertificate/orders --timeout=60s");
    }

    /// The release serves one namespace alone. All others may be those of another release.
    fn beside_another_release(&self) {
        self.bash(&format!(
            "helm upgrade usercert-operator charts/usercert-operator --namespace {OPERATOR_NAMESPACE} --reset-then-reuse-values \
            --set 'watchNamespaces={{{SERVED_ALONE}}}'"
        ));
    }

    fn as_cert_manager_left_it(&self) {
        let (certificate, key) = self.signed("/O=Acme/CN=orders");
        let issued = json!({ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "orders" },
            "spec": { "secretName": "orders-tls" } });
        let mut secret = tls_secret("orders-tls", &certificate, &key);
        secret["metadata"]["annotations"] = json!({ "cert-manager.io/certificate-name": "orders" });
        secret["stringData"]["ca.crt"] = json!(fs::read_to_string(self.folder.join("ca.pem")).unwrap());
        self.apply(&[issued, secret]);
    }

    fn as_a_cron_job_left_it(&self) {
        let (certificate, key) = self.signed("/CN=orders");
        let pod = json!({ "containers": [{ "name": "script", "image": "script" }], "restartPolicy": "Never" });
        let job = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "orders-certificate" },
            "spec": { "schedule": "0 0 1 * *", "jobTemplate": { "spec": { "template": { "spec": pod } } } },
        });
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "orders-script" },
            "stringData": { "client.pem": format!("{certificate}{key}") } });
        self.apply(&[job, secret, issuer("database-ca", &json!({ "ca": { "secretName": "database-users-ca" } }))]);
    }

    /// The certificate is one that the operator made for an object that is gone.
    fn as_terraform_left_it(&self) {
        let entry = |name: &str| {
            format!("kubectl get secret orders-mongodb -o jsonpath='{{.data.tls\\.{name}}}' | base64 -d >> answer.pem")
        };
        self.bash(&format!("{}; {}", entry("crt"), entry("key")));
        self.bash("kubectl create secret generic orders-terraform --from-file=client.pem=answer.pem");
        self.bash("kubectl get certificateissuer atlas -o yaml > atlas.yaml");
        self.bash("kubectl delete databaseusercertificate orders --wait=true");
    }

    fn with_a_cluster_issuer(&self) {
        let (certificate, key) = self.signed("/CN=orders");
        let issuer = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "ClusterCertificateIssuer", "metadata": { "name": "ca" },
            "spec": { "ca": { "secretName": "database-users-ca" }, "allow": { "namespaces": { "names": [self.namespace] } } },
        });
        self.apply(&[tls_secret("orders-tls", &certificate, &key), issuer]);
    }

    fn with_a_retained_secret(&self) {
        self.bash(
            r#"kubectl patch databaseusercertificate orders --type=merge --patch '{"spec": {"deletionPolicy": "Retain"}}'"#,
        );
        self.bash(&format!("for _ in $(seq 60); do [ -n \"{OWNER}\" ] || exit 0; sleep 0.5; done; exit 1"));
    }

    /// One of those that the page asks for.
    fn with_a_user_name_that_is_a_distinguished_name(&self) {
        let named = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "named" },
            "spec": { "username": "CN=named", "issuerRef": { "name": "missing" }, "secretName": "named" },
        });
        self.apply(&[named]);
    }

    /// A certificate that works and cannot be renewed, because its Secret takes no other one, and an issuer without its CA.
    fn with_what_is_refused(&self) {
        let refused = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "refused" },
            "spec": { "username": "bills", "issuerRef": { "name": "atlas" }, "secretName": "refused" },
        });
        self.apply(&[refused, issuer("unready", &json!({ "ca": { "secretName": "missing" } }))]);
        self.bash("kubectl wait --for=condition=Ready databaseusercertificate/refused --timeout=60s");
        self.bash(r#"kubectl patch secret refused --type=merge --patch '{"immutable": true}'"#);
        self.bash("kubectl annotate databaseusercertificate refused usercert.dev/renew-requested-at=now");
        self.bash("kubectl wait --for=condition=RenewalFailed databaseusercertificate/refused --timeout=60s");
        self.bash("kubectl wait --for=condition=Ready=false certificateissuer/unready --timeout=60s");
    }

    fn with_a_certificate_of_the_ca(&self) {
        let reports = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate", "metadata": { "name": "reports" },
            "spec": { "username": "reports", "issuerRef": { "name": "database-ca" }, "secretName": "reports-database" },
        });
        // That of the cluster issuer of another page, for each Secret that is missing is an error.
        let file = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap();
        let mut of_cluster = tls_secret("database-users-ca", &file("ca.pem"), &file("ca.key"));
        of_cluster["metadata"]["namespace"] = json!(OPERATOR_NAMESPACE);
        self.apply(&[issuer("database-ca", &json!({ "ca": { "secretName": "database-users-ca" } })), reports, of_cluster]);
        self.bash("kubectl wait --for=condition=Ready databaseusercertificate/reports --timeout=60s");
    }
}
