//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager as processes. No root, no Docker.
//!
//! There is no node: nothing runs Pods. The operator runs as a process of its own, with a token of its `ServiceAccount`.

mod arguments;
mod audit;
mod ports;
mod process;
mod tools;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;

use crate::evidence;

pub use audit::AuditEvent;
pub use ports::{free_address, free_ports};
pub use process::Supervised;
pub use tools::{repository, tool};

/// How the folders of control planes begin; the process id of their owner follows.
const PREFIX: &str = "usercert-control-plane-";

/// How long the parts may take to start; a slow machine under load needs most of it.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(2);

/// Where the API server can be reached, and who besides the administrator can log in.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address that it listens on, and the one in its certificate.
    pub address: IpAddr,
    /// The port; `None` takes a free one.
    pub port: Option<u16>,
    /// The addresses of Services, of which the first is that of the Service `kubernetes`.
    pub service_range: String,
    /// User names with a group each. Every one gets a kubeconfig, and nodes have their own authorizer then.
    pub users: Vec<(String, String)>,
}

impl Default for Place {
    fn default() -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { address, port: None, service_range: "10.0.0.0/24".to_owned(), users: Vec::new() }
    }
}

/// A running control plane; it stops when dropped, and when this process ends in whatever way.
pub struct ControlPlane {
    directory: TempDir,
    url: String,
    // Dropped in this order: the API server's clients first.
    processes: Vec<Supervised>,
}

impl ControlPlane {
    /// Starts it, on free ports.
    ///
    /// # Errors
    /// A program is missing (`make tools` builds them) or does not become ready; the message names its log.
    pub async fn start() -> Result<Self> {
        Self::start_at(&Place::default()).await
    }

    /// Starts it at a place that nodes and Pods can reach.
    ///
    /// # Errors
    /// As [`Self::start`]; or the address is not one of this machine.
    pub async fn start_at(place: &Place) -> Result<Self> {
        remove_leftovers();
        let directory = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
        let files = Files(directory.path().to_owned());
        // Other users of the machine reach the port too.
        let token = openssl(&["rand", "-hex", "24"])?;
        let mut tokens = format!("{token},admin,admin,\"system:masters\"\n");
        let mut users = Vec::new();
        for (user, group) in &place.users {
            let token = openssl(&["rand", "-hex", "24"])?;
            tokens.extend([format!("{token},{user},{user},\"{group}\"\n")]);
            users.push((user, token));
        }
        files.write("tokens.csv", &tokens)?;
        files.write("audit-policy.yaml", AUDIT_POLICY)?;
        openssl(&["genrsa", "-out", &files.path("service-account.key"), "2048"])?;
        let [etcd_port, peer_port, api_port, controller_port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let api_port = place.port.unwrap_or(api_port);
        let url = format!("https://{}", SocketAddr::new(place.address, api_port));

        let etcd = files.spawn("etcd", &arguments::etcd(&files, &etcd_url, peer_port))?;
        let mut api_server = files.spawn("kube-apiserver", &arguments::api_server(&files, place, &etcd_url, api_port))?;
        wait_for_file(&files.0.join("apiserver.crt"), &mut api_server).await?;
        files.write("admin.kubeconfig", &kubeconfig(&url, &files, &token, "default"))?;
        for (user, token) in users {
            files.write(&kubeconfig_name(user), &kubeconfig(&url, &files, &token, "default"))?;
        }
        let controllers = files.spawn("kube-controller-manager", &arguments::controllers(&files, controller_port))?;
        let mut control_plane = Self { directory, url, processes: vec![controllers, api_server, etcd] };
        control_plane.wait_until_ready().await?;
        Ok(control_plane)
    }

    /// A kubeconfig for the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("admin.kubeconfig")
    }

    /// A kubeconfig for one of the users of its [`Place`].
    #[must_use]
    pub fn user_kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.path().join(kubeconfig_name(user))
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn admin(&self) -> Result<Client> {
        Ok(Client::try_from(config_of(&self.kubeconfig()).await?)?)
    }

    /// A kubeconfig with a token of a `ServiceAccount`, valid for eight hours.
    ///
    /// # Errors
    /// There is no such `ServiceAccount`.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let api = Api::<ServiceAccount>::namespaced(self.admin().await?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(8 * 3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = api.create_token_request(name, &PostParams::default(), &request).await?;
        let token = answer.status.context("the API server gave no token")?.token;
        let files = Files(self.directory.path().to_owned());
        let file = format!("{namespace}-{name}.kubeconfig");
        files.write(&file, &kubeconfig(&self.url, &files, &token, namespace))?;
        Ok(files.0.join(file))
    }

    /// Every request that the API server has answered so far, from its audit log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&audit_log(self.directory.path()))
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let client = self.admin().await?;
        let processes = &mut self.processes;
        let ready = async {
            while processes.iter_mut().all(Supervised::is_running) {
                // The controller manager is ready when it has made the ServiceAccount of the first namespace.
                let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
                if matches!(accounts.get_opt("default").await, Ok(Some(_))) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            false
        };
        match tokio::time::timeout(START_LIMIT, ready).await {
            Ok(true) => Ok(()),
            _ => bail!("the control plane did not become ready:\n{}", process::tails(self.directory.path())),
        }
    }
}

/// The configuration in a kubeconfig file.
///
/// # Errors
/// It cannot be read or is not one.
pub async fn config_of(kubeconfig: &Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

struct Files(PathBuf);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        // Tests ask for the same file side by side: whoever reads it finds it whole.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let unfinished = self.0.join(format!("{name}.{}", WRITTEN.fetch_add(1, Ordering::Relaxed)));
        let written = fs::write(&unfinished, content).and_then(|()| fs::rename(&unfinished, self.0.join(name)));
        written.with_context(|| format!("could not write {}", self.path(name)))
    }

    fn spawn(&self, name: &str, arguments: &[String]) -> Result<Supervised> {
        Supervised::spawn(&tool(name)?, arguments, &[], &self.0.join(format!("{name}.log")))
    }
}

/// Where the audit log is: with the evidence, if that is wanted.
fn audit_log(directory: &Path) -> PathBuf {
    evidence::file(evidence::Kind::Audit).unwrap_or_else(|| directory.join("audit.log"))
}

/// Who did what to which object. No bodies, for they hold keys, but for those in which the operator says something.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [create, patch]
  resources:
  - {group: events.k8s.io, resources: [events]}
  - {group: usercert.dev, resources: [databaseusercertificates/status, certificateissuers/status, clustercertificateissuers/status]}
- level: Metadata
";

fn kubeconfig_name(user: &str) -> String {
    format!("{}.kubeconfig", user.replace(':', "-"))
}

fn kubeconfig(url: &str, files: &Files, token: &str, namespace: &str) -> String {
    let certificate = files.path("apiserver.crt");
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: local, cluster: {{server: \"{url}\", certificate-authority: \"{certificate}\"}}}}]
users: [{{name: user, user: {{token: \"{token}\"}}}}]
contexts: [{{name: local, context: {{cluster: local, user: user, namespace: \"{namespace}\"}}}}]
current-context: local
"
    )
}

/// Removes the folders of processes that ended without doing so: a test's process, or one that was killed.
fn remove_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| Path::new("/proc/self").exists() && !Path::new("/proc").join(owner).exists()) {
            // Somebody else's folder cannot be removed, and need not be.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

async fn wait_for_file(file: &Path, process: &mut Supervised) -> Result<()> {
    for _ in 0..START_LIMIT.as_secs() * 10 {
        if file.exists() {
            return Ok(());
        }
        if !process.is_running() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{} was not made; see {}", file.display(), process.log().display())
}

fn openssl(arguments: &[&str]) -> Result<String> {
    let output = std::process::Command::new("openssl").args(arguments).output().context("could not run openssl: install it")?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        bail!("openssl {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr))
    }
}
