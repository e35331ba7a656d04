//! What may follow on a command line that is not finished, as kubectl asks a plugin for it.
//!
//! kubectl runs `kubectl_complete-usercert` with the words so far, the last of which is to be completed and may be empty. It reads lines of
//! `VALUE<tab>HELP`, and at the end `:DIRECTIVE`, as the completions of cobra have it.

use std::{ffi::OsString, fmt::Debug, time::Duration};

use clap::{Command, CommandFactory, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete as candidates};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Resource, ResourceExt, api::ListParams, config::Kubeconfig, core::PartialObjectMeta};
use serde::de::DeserializeOwned;
use usercert_operator_controller::Received;
use usercert_operator_core::api::{CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate};

use crate::{
    arguments::{Arguments, Connection, PROGRAM},
    cluster::Cluster,
    exit::CliError,
    login::block_on,
    table::Cell,
    text::append,
};

/// The first argument that asks for completions.
pub const COMPLETE: &str = "__complete";

/// Whoever presses the tab key waits no longer for the cluster.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most names that are shown. A list of more helps nobody.
const MOST: u32 = 500;

/// cobra's directives: no name of a file follows; no space follows.
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 2;

/// What may take the place of the last of these words.
#[must_use]
pub fn complete(words: &[OsString]) -> String {
    let mut line: Vec<OsString> = std::iter::once(PROGRAM.into()).chain(words.iter().cloned()).collect();
    if words.is_empty() {
        line.push(OsString::new());
    }
    let (last, before) = (line.len() - 1, &line[..line.len() - 1]);
    let mut command = with_values(connection(before));
    let found = candidates(&mut command, line.clone(), last, None).unwrap_or_default();
    let mut text = String::new();
    let mut is_folder = false;
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        is_folder |= value.ends_with('/');
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let (value, help) = (Cell::whole(&value), Cell::whole(help.lines().next().unwrap_or_default()));
        append(&mut text, format_args!("{}{}{}\n", value.text(), if help.text().is_empty() { "" } else { "\t" }, help.text()));
    }
    append(&mut text, format_args!(":{}\n", if is_folder { NO_FILES | NO_SPACE } else { NO_FILES }));
    text
}

/// How the cluster is reached, as far as the words say it.
fn connection(words: &[OsString]) -> Option<Connection> {
    let matches = Arguments::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    Connection::from_arg_matches(&matches).ok()
}

/// What a cluster has names of.
#[derive(Clone, Copy)]
enum Names {
    Certificates,
    Secrets,
    Issuers,
    Namespaces,
}

/// The command line, with values from the cluster.
fn with_values(connection: Option<Connection>) -> Command {
    let Some(connection) = connection else { return Arguments::command() };
    let of = |names: Names| {
        let connection = connection.clone();
        ArgValueCandidates::new(move || ask(&connection, names).into_iter().map(CompletionCandidate::new).collect())
    };
    let kubeconfig = connection.kubeconfig.clone();
    let contexts = ArgValueCandidates::new(move || contexts(kubeconfig.as_deref()));
    let mut command = Arguments::command()
        .mut_arg("namespace", |argument| argument.add(of(Names::Namespaces)))
        .mut_arg("operator_namespace", |argument| argument.add(of(Names::Namespaces)))
        .mut_arg("context", |argument| argument.add(contexts));
    for (verb, argument, names) in [
        ("status", "names", Names::Certificates),
        ("why", "name", Names::Certificates),
        ("renew", "names", Names::Certificates),
        ("suspend", "names", Names::Certificates),
        ("resume", "names", Names::Certificates),
        ("inspect", "secret", Names::Secrets),
        ("migrate", "secret", Names::Secrets),
        ("migrate", "issuer", Names::Issuers),
        ("create", "issuer", Names::Issuers),
    ] {
        command = command.mut_subcommand(verb, |verb| verb.mut_arg(argument, |argument| argument.add(of(names))));
    }
    command
}

/// The contexts of the kubeconfig; none if it cannot be read.
fn contexts(kubeconfig: Option<&std::path::Path>) -> Vec<CompletionCandidate> {
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    read.map(|read| read.contexts.into_iter().map(|context| CompletionCandidate::new(context.name)).collect())
        .unwrap_or_default()
}

/// Names from the cluster; none if it does not answer at once or does not let them be listed.
fn ask(connection: &Connection, names: Names) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let asked = async { tokio::time::timeout(PATIENCE, list(connection, names)).await };
    // A shell shows no errors between the words.
    block_on(runtime, asked).ok().and_then(Result::ok).unwrap_or_default()
}

async fn list(connection: &Connection, names: Names) -> Result<Vec<String>, CliError> {
    let cluster = Cluster::connect_in_silence(connection).await?;
    let (client, namespace, most) = (cluster.client.clone(), &cluster.namespace, ListParams::default().limit(MOST));
    match names {
        Names::Certificates => {
            names_of(&cluster, &Metadata::<DatabaseUserCertificate>::namespaced(client, namespace), &most).await
        }
        Names::Secrets => {
            let tls = most.fields("type=kubernetes.io/tls");
            names_of(&cluster, &Metadata::<Secret>::namespaced(client, namespace), &tls).await
        }
        Names::Issuers => {
            let api = Metadata::<CertificateIssuer>::namespaced(client.clone(), namespace);
            let mut found = names_of(&cluster, &api, &most).await?;
            let of_cluster = names_of(&cluster, &Metadata::<ClusterCertificateIssuer>::all(client), &most).await;
            found.extend(of_cluster.unwrap_or_default().iter().map(|name| format!("cluster/{name}")));
            Ok(found)
        }
        Names::Namespaces => names_of(&cluster, &Metadata::<Namespace>::all(client), &most).await,
    }
}

/// An object that cannot be read hides no other name.
type Metadata<K> = Api<Received<PartialObjectMeta<K>>>;

async fn names_of<K>(cluster: &Cluster, api: &Api<K>, parameters: &ListParams) -> Result<Vec<String>, CliError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let found = cluster.ask("list names", api.list(parameters)).await?;
    Ok(found.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        complete(&words)
    }

    #[test]
    fn verbs_flags_and_values_are_completed_with_their_help() {
        let verbs = completed(&["s"]);
        assert!(verbs.starts_with("status\tShow which certificates expire when") && verbs.contains("suspend\t"), "{verbs}");
        assert!(verbs.ends_with("\n:4\n") && !verbs.contains("why"), "{verbs}");
        assert!(completed(&[]).contains("migrate\t") && completed(&[""]).contains("migrate\t"));
        assert!(completed(&["renew", "--dr"]).starts_with("--dry-run\t"));
        assert!(completed(&["status", "-o", ""]).contains("json\t"));
        assert_eq!(completed(&["status", "--unknown", "x", "--outp"]).lines().last(), Some(":4"));
    }

    #[test]
    fn the_words_before_say_which_cluster_is_meant() {
        let of = |words: &[&str]| {
            let words: Vec<OsString> = std::iter::once(&PROGRAM).chain(words).map(OsString::from).collect();
            connection(&words).and_then(|connection| connection.namespace)
        };
        for words in [&["why", "-n", "shop"][..], &["-n", "shop", "why"], &["renew", "--namespace=shop", "--wait"]] {
            assert_eq!(of(words).as_deref(), Some("shop"), "{words:?}");
        }
        assert_eq!(of(&["why"]), None);
    }
}
