//! The commands that are not run here, each with the reason.

use crate::page::Page;

/// Page, how the command begins, and why it is not run here.
pub const UNRUN: &[(&str, &str, &str)] = &[
    ("CONTRIBUTING.md", "make", "CI runs them, but for release-check, which takes minutes"),
    ("README.md", "make demo", "CI runs it"),
    ("README.md", "make test", "this test is a part of it"),
    ("README.md", "helm install", "it is the command of docs/install.md, which is run"),
    ("charts/usercert-operator/README.md", "helm test", "needs a node: make e2e runs it"),
    ("charts/usercert-operator/README.md", "helm install", "needs a node for --wait; without it docs/install.md runs it"),
    ("charts/usercert-operator/README.md", "kubectl rollout undo", "a mention without its objects"),
    ("docs/alerts.md", "kubectl -n RELEASE_NAMESPACE logs", "needs a node, where the operator's Pod runs"),
    ("docs/alerts.md", "kubectl -n RELEASE_NAMESPACE describe pod", "needs a node, where the operator's Pod runs"),
    ("docs/alerts.md", "kubectl -n RELEASE_NAMESPACE port-forward", "needs a node, where the operator's Pod runs"),
    ("docs/alerts.md", "kubectl describe pod", "a mention without its Pod"),
    ("docs/behaviour.md", "kubectl --namespace usercert-system port-forward", "needs a node; tests/health asks the same port"),
    ("docs/behaviour.md", "curl", "needs the port above; tests/health sends the same request"),
    ("docs/clients/mariadb.md", "", "tests/databases runs it"),
    ("docs/clients/postgresql.md", "", "tests/databases runs it"),
    ("docs/demo.md", "make demo", "CI runs it"),
    ("docs/from-terraform.md", "terraform", "needs Terraform and its state"),
    ("docs/install.md", "docker", "needs docker and a registry; make e2e runs the same image, built without docker"),
    ("docs/install.md", "helm test", "needs a node: make e2e runs it"),
    ("docs/install.md", "helm install usercert-operator oci:", "needs a release; make release-check pulls such a chart"),
    ("docs/install.md", "gh release download", "needs a release"),
    ("docs/install.md", "sha256sum", "needs a release; make release-check runs it on its own files"),
    ("docs/install.md", "tar", "needs a release; make release-check unpacks such an archive by its krew manifest"),
    ("docs/install.md", "kubectl krew", "needs a release; make release-check has krew install from such a manifest"),
    ("docs/release.md", "cargo build", "make cli builds the same program"),
    ("docs/release.md", "cosign", "needs a release; make release-check verifies one with a key of its own"),
    ("docs/release.md", "gh attestation", "needs a release"),
    ("docs/release.md", "crane digest", "needs a release"),
    ("docs/release.md", "helm upgrade usercert-operator oci:", "needs a release; make release-check pulls such a chart"),
    ("docs/release.md", "crane config", "needs a release; release/look-at-image.sh compares the label"),
    ("docs/release.md", "sha256sum", "needs a release; make release-check runs it on its own files"),
    ("docs/release.md", "DOCKER_CONFIG", "needs a release"),
    ("docs/release.md", "make release-check", "takes minutes, and is no part of CI's .ci/run"),
    ("docs/troubleshooting.md", "kubectl --namespace usercert-system logs", "needs a node, where the operator's Pod runs"),
    ("docs/upgrade.md", "helm upgrade usercert-operator oci:", "needs a release; make release-check pulls such a chart"),
    ("docs/upgrade.md", "kubectl --namespace usercert-system rollout status", "needs a node, where the operator's Pod runs"),
];

/// Why a command of a page is not run here.
pub fn reason(page: &str, command: &str) -> Option<&'static str> {
    let found = UNRUN.iter().find(|(of_page, beginning, _)| *of_page == page && command.starts_with(beginning));
    found.map(|(_, _, reason)| *reason)
}

pub const TESTS: &[crate::prose::Test] = &[
    ("each_command_that_is_not_run_is_in_a_page", every_entry_is_of_use),
    ("what_stays_in_the_foreground_ends_its_block", nothing_follows_what_does_not_end),
];

/// Whoever pastes a block would wait for ever before the next line.
fn nothing_follows_what_does_not_end(pages: &[Page]) {
    let stays = |text: &str| [" port-forward ", " --watch", " --follow"].iter().any(|part| text.contains(part));
    let mut count = 0;
    for page in pages {
        for block in page.blocks.iter().filter(|block| block.info == "sh") {
            let commands = block.commands();
            let found = commands.iter().position(|command| stays(&command.text));
            assert!(found.is_none_or(|index| index + 1 == commands.len()), "{}:{}: something follows", page.name(), block.line);
            count += usize::from(found.is_some());
        }
    }
    assert!(count > 0, "no such command");
}

fn every_entry_is_of_use(pages: &[Page]) {
    for (page, beginning, reason) in UNRUN {
        let found = pages.iter().find(|found| found.name() == *page).unwrap_or_else(|| panic!("there is no page {page}"));
        let commands = found.commands();
        assert!(commands.iter().any(|command| command.text.starts_with(beginning)), "{page} has no command {beginning:?}");
        println!("not run: {page}: {}: {reason}", if beginning.is_empty() { "all" } else { beginning });
    }
}
