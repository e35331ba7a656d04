//! `report`: a bundle for a bug report, without what must not be seen.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, Pod, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, LogParams},
    core::PartialObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};
use usercert_operator_controller::chain;
use usercert_operator_core::api::{
    CertificateIssuer, ClusterCertificateIssuer, DatabaseUserCertificate,
    names::{CERTIFICATE_UID_LABEL, GROUP},
};

use super::{
    check::{self, installed::installed},
    leader::leader,
    namespace::must_exist_if_empty,
    objects::certificates,
    status::all_told,
    whole::Whole,
    why::told_in_words,
};
use crate::{
    arguments::{Form, ReportArguments},
    cluster::Cluster,
    exit::{Answer, CliError, Exit, for_programs},
    redact::{OPERATOR, redact, redacted},
    session::Session,
    terminal::Progress,
    text::count,
};

/// How many certificates that need attention are explained.
const EXPLAINED: usize = 20;

/// The files of a bundle, and what is missing from it.
#[derive(Default)]
struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

/// Does `report`.
pub(super) async fn report(cluster: &Cluster, session: &Session, arguments: &ReportArguments) -> Result<Answer, CliError> {
    let target = arguments.to.clone().unwrap_or_else(|| default_target(session.now()));
    // Before anything is asked, for it takes long.
    if target.exists() {
        return Err(CliError::Usage(format!("{} exists: give another name with --to", target.display())));
    }
    let mut bundle = collect(cluster, session, arguments).await?;
    let readme = readme(&bundle, session.now());
    bundle.files.insert(0, ("README.txt".to_owned(), readme.into_bytes()));
    if target.to_string_lossy().ends_with('/') {
        write_folder(&target, &bundle.files)?;
    } else {
        write_archive(&target, &bundle.files, session.now())?;
    }
    let missing = if bundle.missing.is_empty() {
        String::new()
    } else {
        format!("{} could not be read, see README.txt in it\n", count(bundle.missing.len(), "part"))
    };
    let told =
        format!("{} has {}: look at it before you hand it on\n{missing}", target.display(), count(bundle.files.len(), "file"));
    Ok(Answer::new(told, Exit::Good))
}

fn default_target(now: Timestamp) -> PathBuf {
    PathBuf::from(format!("usercert-report-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ")))
}

async fn collect(cluster: &Cluster, session: &Session, arguments: &ReportArguments) -> Result<Bundle, CliError> {
    let mut bundle = Bundle::default();
    let mut progress = Progress::new(&session.terminal);
    let selection = &arguments.selection;
    // A report is needed most where the definitions or the rights are missing.
    let objects = match certificates(cluster, &[], selection).await {
        Ok(objects) => objects,
        Err(error @ (CliError::Unreachable { .. } | CliError::TimedOut { .. })) => return Err(error),
        Err(error) => {
            bundle.miss("status.json", &error);
            Vec::new()
        }
    };
    if let Err(error) = must_exist_if_empty(cluster, objects.is_empty(), selection.all_namespaces).await {
        bundle.miss("status.json", &error);
    }
    let told = all_told(&objects, session.now());
    bundle.add_json("status.json", &told);
    progress.tell(|| "certificates are read".to_owned());
    for told in told.iter().filter(|told| told.state.needs_attention()).take(EXPLAINED) {
        let is_it = |object: &&super::objects::Certificate| {
            object.name_any() == told.name && object.namespace().as_ref() == Some(&told.namespace)
        };
        let Some(object) = objects.iter().find(is_it) else { continue };
        let name = format!("why/{}/{}.txt", told.namespace, told.name);
        match told_in_words(cluster, session, object).await {
            Ok(text) => bundle.add(name, &text),
            Err(error) => bundle.miss(&name, &error),
        }
    }
    match check::findings(cluster, session, arguments.service_account.as_deref(), arguments.selection.all_namespaces).await {
        Ok(found) => bundle.add_json("check.json", &found),
        Err(error) => bundle.miss("check.json", &error),
    }
    progress.tell(|| "checks are made".to_owned());
    let labelled = ListParams::default().labels(selection.selector.as_deref().unwrap_or_default());
    let everything = ListParams::default();
    bundle
        .list(cluster, "certificates", &scoped::<DatabaseUserCertificate>(cluster, selection.all_namespaces), &labelled)
        .await;
    bundle.list(cluster, "issuers", &scoped::<CertificateIssuer>(cluster, selection.all_namespaces), &everything).await;
    let cluster_issuers = Api::<Whole<ClusterCertificateIssuer>>::all(cluster.client.clone());
    bundle.list(cluster, "cluster-issuers", &cluster_issuers, &everything).await;
    let ours = ListParams::default().labels(CERTIFICATE_UID_LABEL);
    bundle
        .list(cluster, "secrets-metadata", &scoped::<PartialObjectMeta<Secret>>(cluster, selection.all_namespaces), &ours)
        .await;
    progress.tell(|| "objects are read".to_owned());
    bundle.events(cluster, selection.all_namespaces).await;
    bundle.operator(cluster, session.now(), arguments.log_lines, &mut progress).await;
    Ok(bundle)
}

fn scoped<K>(cluster: &Cluster, all_namespaces: bool) -> Api<Whole<K>>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    if all_namespaces { Api::all(cluster.client.clone()) } else { Api::namespaced(cluster.client.clone(), &cluster.namespace) }
}

impl Bundle {
    fn add(&mut self, name: impl Into<String>, text: &str) {
        self.files.push((name.into(), redacted(text).into_bytes()));
    }

    fn add_json<T: Serialize>(&mut self, name: &str, value: &T) {
        let redacted = serde_json::to_value(value).map(|mut value| {
            redact(&mut value);
            value
        });
        match redacted.map(|value| for_programs(&value, Form::Json)) {
            // It is redacted part by part. As a text it would lose its form.
            Ok(Ok(Some(text))) => self.files.push((name.to_owned(), text.into_bytes())),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.miss(name, &error),
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    fn miss(&mut self, name: &str, error: &CliError) {
        self.missing.push(format!("{name}: {}", redacted(&chain(error))));
    }

    async fn list<K>(&mut self, cluster: &Cluster, name: &str, api: &Api<K>, parameters: &ListParams)
    where
        K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let file = format!("{name}.json");
        match cluster.list(name, api, parameters).await {
            Ok(found) => self.add_json(&file, &found),
            Err(error) => self.miss(&file, &error),
        }
    }

    async fn events(&mut self, cluster: &Cluster, all_namespaces: bool) {
        match cluster.list("events", &scoped::<Event>(cluster, all_namespaces), &ListParams::default()).await {
            Ok(mut found) => {
                found.retain(|event| event.text("/involvedObject/apiVersion").starts_with(GROUP));
                self.add_json("events.json", &found);
            }
            Err(error) => self.miss("events.json", &error),
        }
    }

    /// The operator's Pods, their logs, and its Lease.
    async fn operator(&mut self, cluster: &Cluster, now: Timestamp, log_lines: u32, progress: &mut Progress) {
        let namespace = &cluster.operator_namespace;
        let leases = Api::<Lease>::namespaced(cluster.client.clone(), namespace);
        match cluster.ask("read the Lease", leases.get_opt(&cluster.lease_name)).await {
            Ok(lease) => self.add_json("operator/lease.json", &lease),
            Err(error) => self.miss("operator/lease.json", &error),
        }
        let pods = Api::<Whole<Pod>>::namespaced(cluster.client.clone(), namespace);
        let (leader, _) = leader(cluster, now).await;
        let with_logs = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let ours = ListParams::default().labels(&installed(cluster, &leader, None).await.selector);
        let found = match cluster.list("Pods", &pods, &ours).await {
            Ok(found) => found,
            Err(error) => return self.miss("operator/pods.json", &error),
        };
        self.add_json("operator/pods.json", &found);
        for Log { pod, container, is_before_restart, file } in found.iter().flat_map(logs) {
            let (container, tail_lines) = (Some(container), Some(i64::from(log_lines)));
            let parameters = LogParams { container, tail_lines, previous: is_before_restart, ..LogParams::default() };
            match cluster.ask(format!("read the log of {pod}"), with_logs.logs(&pod, &parameters)).await {
                Ok(text) => self.add(file, &text),
                Err(error) => self.miss(&file, &error),
            }
            progress.tell(|| format!("the log of {pod} is read"));
        }
    }
}

/// A log of a Pod, and the file for it.
struct Log {
    pod: String,
    container: String,
    is_before_restart: bool,
    file: String,
}

/// The logs of the operator's container, or of each container if none has its name. A mesh adds a container of its own, and then the API
/// server wants to know which one is meant.
fn logs(pod: &Whole<Pod>) -> Vec<Log> {
    let containers = pod.list("/spec/containers").iter().filter_map(|container| container["name"].as_str());
    let containers: Vec<&str> = containers.collect();
    let has_operator = containers.contains(&OPERATOR);
    let is_restarted = |name: &str| {
        let mut statuses = pod.list("/status/containerStatuses").iter();
        statuses.any(|status| status["name"] == name && status["restartCount"].as_u64() > Some(0))
    };
    let log = |name: &str, is_before_restart: bool| {
        let of_container = if has_operator { String::new() } else { format!("/{name}") };
        let before = if is_before_restart { "-before" } else { "" };
        let file = format!("operator/{}{of_container}{before}.log", pod.name());
        Log { pod: pod.name().to_owned(), container: name.to_owned(), is_before_restart, file }
    };
    let wanted = containers.into_iter().filter(|name| !has_operator || *name == OPERATOR);
    wanted.flat_map(|name| [Some(log(name, false)), is_restarted(name).then(|| log(name, true))]).flatten().collect()
}

fn readme(bundle: &Bundle, now: Timestamp) -> String {
    let mut text = format!(
        "Report of kubectl usercert {}, made at {now} by the clock of the machine that made it.\n\nSecrets: only their metadata were read. Private keys, tokens, passwords, values of environment variables, arguments and headers of probes, and annotations of others were taken out. In logs and messages, what follows the name of a secret was taken out up to the end of its line.\nNames of objects, users and hosts are in it.\n\nFiles:\n",
        env!("CARGO_PKG_VERSION")
    );
    text.extend(bundle.files.iter().map(|(name, _)| format!("  {name}\n")));
    if !bundle.missing.is_empty() {
        text.push_str("\nCould not be read:\n");
        text.extend(bundle.missing.iter().map(|missing| format!("  {missing}\n")));
    }
    text
}

/// Names come from objects, whose names Kubernetes restricts to what is harmless in a path.
fn write_folder(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<(), CliError> {
    for (name, bytes) in files {
        let path = folder.join(name);
        let failed = |source| CliError::File { operation: "write", path: path.clone(), source };
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        new_file(&path).and_then(|mut file| file.write_all(bytes)).map_err(failed)?;
    }
    Ok(())
}

fn write_archive(path: &Path, files: &[(String, Vec<u8>)], now: Timestamp) -> Result<(), CliError> {
    let failed = |source| CliError::File { operation: "write", path: path.to_owned(), source };
    let bytes = archive(files, now).map_err(failed)?;
    new_file(path).and_then(|mut file| file.write_all(&bytes)).map_err(failed)
}

/// A file that nobody else may read.
fn new_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn archive(files: &[(String, Vec<u8>)], now: Timestamp) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap_or_default());
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
        archive.append_data(&mut header, format!("usercert-report/{name}"), bytes.as_slice())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::io::Read;

    use super::*;

    fn files() -> Vec<(String, Vec<u8>)> {
        vec![("README.txt".into(), b"a".to_vec()), ("operator/a.log".into(), b"b".to_vec())]
    }

    #[test]
    fn the_archive_holds_every_file() {
        let bytes = archive(&files(), Timestamp::UNIX_EPOCH).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        let expected = [("usercert-report/README.txt", "a"), ("usercert-report/operator/a.log", "b")];
        assert_eq!(read.collect::<Vec<_>>(), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        write_folder(&folder.path().join("bundle"), &files()).unwrap();
        assert!(write_folder(&folder.path().join("bundle"), &files()).is_err());
        let file = folder.path().join("a.tar.gz");
        write_archive(&file, &files(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(write_archive(&file, &files(), Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn what_is_missing_is_named_and_everything_is_redacted() {
        let mut bundle = Bundle::default();
        bundle.add("a.log", "x -----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----");
        bundle.add_json("b.json", &serde_json::json!({ "data": { "a": "c2VjcmV0" } }));
        bundle.miss("c.json", &CliError::NotFound("not there".into()));
        let all: String = bundle.files.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert!(!all.contains("MIIB") && !all.contains("c2VjcmV0"), "{all}");
        let readme = readme(&bundle, Timestamp::UNIX_EPOCH);
        assert!(
            readme.contains("  a.log\n  b.json\n") && readme.contains("Could not be read:\n  c.json: not there\n"),
            "{readme}"
        );
    }
}
