//! What happens between the commands of a page.

use std::fs;

use usercert_test_support::control_plane::repository;

use super::{OPERATOR_NAMESPACE, SERVED_ALONE, Scene};
use crate::page::{Command, Page};

impl Scene<'_> {
    pub(super) fn before(&self, command: &Command) {
        if self.page == "docs/backup.md" {
            self.between_backup_and_restore(command);
        }
    }

    pub(super) fn after(&self, command: &Command) {
        if self.page == "docs/uninstall.md" && command.text.starts_with("helm install") {
            self.serves_what_it_served();
        }
        let issuer = match self.page {
            "docs/start-atlas.md" => "atlas",
            "docs/start-ca.md" => "ca",
            _ => return,
        };
        if command.text.contains(" create secret ") {
            self.take_what_is_told_elsewhere(issuer);
        }
    }

    /// With the whole cluster it would serve the namespaces of another release too.
    fn serves_what_it_served(&self) {
        let of_deployment = "jsonpath='{.spec.template.spec.containers[0].env[?(@.name==\"WATCH_NAMESPACES\")].value}'";
        let shown =
            format!("kubectl get deployment usercert-operator --namespace {OPERATOR_NAMESPACE} --output {of_deployment}");
        self.bash(&format!("test \"$({shown})\" = {SERVED_ALONE}"));
    }

    /// Whoever has made the Secret of this page may go on with the objects of the README, or of the folder `examples`. They are gone afterwards.
    fn take_what_is_told_elsewhere(&self, issuer: &str) {
        let blocks = Page::read("README.md").blocks.into_iter().filter(|block| block.info == "yaml").map(|block| block.code);
        let example = fs::read_to_string(repository().join(format!("examples/{issuer}.yaml"))).unwrap();
        let mut count = 0;
        for text in blocks.chain([example]) {
            let mut objects = self.objects_here(&text);
            if objects.iter().any(|object| object["spec"][issuer].is_object()) {
                objects.retain(|object| object["kind"] != "Secret");
                self.apply(&objects);
                self.bash("kubectl wait --for=condition=Ready databaseusercertificates --all --timeout=60s");
                self.bash("kubectl delete databaseusercertificates,certificateissuers --all --cascade=foreground");
                count += 1;
            }
        }
        assert_eq!(count, 2, "the README and the folder `examples` have objects with a {issuer} issuer");
    }

    /// All that was saved is lost while the operator is paused. What is restored is in service as before, and nothing new was made.
    fn between_backup_and_restore(&self, command: &Command) {
        let kept = "kubectl get secrets orders-mongodb reports-database database-users-ca atlas-credentials \
            -o jsonpath='{range .items[*]}{.metadata.name}{.data}{end}'";
        if command.text.ends_with("replicaCount=0") {
            self.bash(&format!("{kept} > before"));
            // They hold private keys.
            self.bash("modes=$(stat -c %a usercert-*) && test \"$(sort -u <<< \"$modes\")\" = 600 && test $(wc -l <<< \"$modes\") -eq 5");
            self.stage.stop_operator();
            self.bash("kubectl delete -f usercert-objects.json -f usercert-secrets.json -f usercert-credentials.json --ignore-not-found");
            self.bash("! kubectl get secret database-users-ca && ! kubectl get secret orders-mongodb");
        } else if command.text.contains("replicaCount=REPLICAS") {
            tokio::runtime::Handle::current().block_on(self.stage.start_operator());
        } else if command.text.ends_with("adopt-secret-") {
            self.bash("kubectl wait --for=condition=Ready databaseusercertificate/orders databaseusercertificate/reports --timeout=60s");
            self.bash(&format!("{kept} | diff before - > changed"));
            self.bash(
                "kubectl get secret atlas-credentials -o jsonpath='{.metadata.annotations}' | grep credentials-not-after",
            );
            let owners = "{range .items[*]}{.metadata.ownerReferences[0].uid}{end}";
            let uids = "{range .items[*]}{.metadata.uid}{end}";
            self.bash(&format!(
                "diff <(kubectl get secrets orders-mongodb reports-database -o jsonpath='{owners}') \
                <(kubectl get databaseusercertificates orders reports -o jsonpath='{uids}')"
            ));
        }
    }
}
