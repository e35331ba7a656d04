//! The shell in which the commands of a page run.

use std::{
    fmt,
    process::{Command as Process, Stdio},
};

use usercert_test_support::evidence::{self, Kind};

use super::{OPERATOR_NAMESPACE, OWNER, Scene, TOLD_NAMESPACE};
use crate::{
    filters::{self, Filter, has_line},
    page::Command,
};

impl Scene<'_> {
    /// A command as it is run here: names that the reader has to put in are put in, and what would end the others is only tried.
    fn adapted(&self, command: &str) -> String {
        let mut text = command.replace("REGISTRY", "registry.example").replace("RELEASE_NAMESPACE", OPERATOR_NAMESPACE);
        for before in ["-n ", "--namespace ", "create namespace "] {
            text = text.replace(&format!("{before}{TOLD_NAMESPACE}"), &format!("{before}{}", self.namespace));
        }
        text = text.replace("NAMESPACE", &self.namespace);
        let named = [("certissuer", "atlas"), ("secret", "orders-mongodb")];
        let name = named.iter().find(|(kind, _)| text.contains(&format!(" {kind} NAME"))).map_or("orders", |(_, name)| name);
        text = text.replace(" NAME", &format!(" {name}"));
        // Of this page's certificates, not of those of the pages beside it.
        text = text.replace("usercert renew -A --all", "usercert renew --all");
        text = text.replace(" CHART ", " charts/usercert-operator ").replace("replicaCount=REPLICAS", "replicaCount=1");
        // The chart is installed once for all pages.
        let changes_the_release = text.starts_with("helm upgrade") && self.page != "docs/upgrade.md";
        if changes_the_release || text.starts_with("helm template") && text.contains("| kubectl apply") {
            text.push_str(" --dry-run=server");
        }
        if text.starts_with("leader=") {
            text.push_str("; test -n \"$leader\"");
        }
        // What the page says to wait for.
        if self.page == "docs/upgrade.md" && text.starts_with("kubectl get secrets") {
            text = format!("for _ in $(seq 60); do [ -z \"{OWNER}\" ] || break; sleep 0.5; done; [ -n \"{OWNER}\" ] && {text}");
        }
        text
    }

    /// Runs a command of the page, and sees that it does what the page says.
    pub(super) fn run(&self, command: &Command) {
        let text = self.adapted(&command.text);
        let answer = self.try_bash(&text);
        let is_as_it_should_be = match answer.status {
            0 => true,
            1 => may_need_attention(&text),
            _ => false,
        };
        assert!(is_as_it_should_be, "{}:{}: {text}\n{answer}", self.page, command.line);
        if let Some(filter) = filters::of(self.page, &command.text) {
            self.judge(filter, &text, &answer.said);
        }
        if text.starts_with("umask ") {
            self.shell.borrow_mut().extend([text.as_str(), "\n"]);
        }
    }

    /// Sees that a command with `grep` prints what it has to, and leaves out what it must, both of which are in what it looks through.
    fn judge(&self, filter: &Filter, text: &str, printed: &str) {
        let (before, _) = text.split_once("| grep").expect("a filter");
        let all = self.try_bash(before).said;
        let [wanted, unwanted] = [filter.printed, filter.left_out].map(|words| words.replace("NAMESPACE", &self.namespace));
        let is_there = has_line(&all, &wanted) && has_line(&all, &unwanted);
        assert!(is_there, "{}: {wanted:?} or {unwanted:?} is not in what is looked through: {before}\n{all}", self.page);
        assert!(has_line(printed, &wanted), "{}: {wanted:?} is not found: {text}\n{printed}", self.page);
        assert!(!has_line(printed, &unwanted), "{}: {unwanted:?} is found: {text}\n{printed}", self.page);
    }

    /// Runs what the page does not tell, and needs.
    pub(super) fn bash(&self, text: &str) {
        let answer = self.try_bash(text);
        assert_eq!(answer.status, 0, "{}: beside the commands: {text}\n{answer}", self.page);
    }

    fn try_bash(&self, text: &str) -> Answer {
        let output = Process::new("timeout")
            .args(["100", "bash", "-c", &format!("{}{text}", self.shell.borrow())])
            .current_dir(&self.folder)
            .env("PATH", &self.stage.programs)
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("HOME", &self.folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        // No secret may be in it: the check of all evidence looks. kubectl itself shows a Secret to whoever asks for it.
        if text.starts_with("kubectl usercert") {
            evidence::append(Kind::Log, &output.stdout);
            evidence::append(Kind::Log, &output.stderr);
        }
        Answer {
            status: output.status.code().unwrap_or(-1),
            said: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What a command has said.
struct Answer {
    status: i32,
    said: String,
    errors: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { status, said, errors } = self;
        write!(formatter, "it ended with {status} and said\n{said}{errors}")
    }
}

/// Whether the exit code 1 may say that the question is answered, and something needs attention.
fn may_need_attention(command: &str) -> bool {
    let verbs = ["status", "why", "plan", "check", "orphans"];
    let is_preview = command.starts_with("kubectl usercert migrate") && !command.contains("--yes");
    is_preview || verbs.iter().any(|verb| command.starts_with(&format!("kubectl usercert {verb}")))
}
