//! Where the commands of the pages run: a real API server with the chart, the operator at work, and for each page a namespace with what the
//! page talks about.

mod between;
mod prepared;
mod shell;

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::Mutex,
};

use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::AbortHandle;
use usercert_operator::{
    controller::Scope,
    operator::{Candidate, Election, process_name},
    runtime::Leadership,
};
use usercert_test_support::{
    atlas::{StandIn, StandInConfig, X509Type},
    command::output_with_input,
    control_plane::{ControlPlane, config_of, repository, tool},
};

use crate::{
    examples,
    harness::{Operator, PRIVATE_API_KEY, atlas_objects, eventually, openssl},
    page::Page,
};

/// The namespace that the pages talk about.
const TOLD_NAMESPACE: &str = "shop";
const OPERATOR_NAMESPACE: &str = "usercert-system";
/// What the release of `docs/uninstall.md` serves, before and after.
const SERVED_ALONE: &str = "default";

/// Who owns the Secret `orders-mongodb`: nobody, if it is retained.
const OWNER: &str = "$(kubectl get secret orders-mongodb -o jsonpath='{.metadata.ownerReferences[0].name}')";

const CLIENT_SECRET: &str = "mdb_sa_sk_4f1c7be2-of-the-pages";

pub struct Stage {
    pub control_plane: ControlPlane,
    atlas: StandIn,
    operator: Mutex<Option<Operator>>,
    /// Holds the Lease for as long as the operator runs.
    election: Mutex<Option<AbortHandle>>,
    /// Programs by their names, and a folder for each page.
    folder: TempDir,
    programs: String,
}

/// What a page has for itself.
struct Scene<'a> {
    stage: &'a Stage,
    page: &'a str,
    namespace: String,
    folder: PathBuf,
    project: String,
    public_key: String,
    client_id: String,
    /// What the commands before have set in the shell. Each command has a shell of its own here, and the reader has one for all.
    shell: RefCell<String>,
}

impl Stage {
    pub async fn set() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
        let (control_plane, atlas) = tokio::join!(ControlPlane::start(), StandIn::start(StandInConfig::default()));
        let folder = tempfile::Builder::new().prefix("usercert-docs-").tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        symlink(std::env::current_exe().unwrap(), programs.join("kubectl-usercert")).unwrap();
        for program in ["kubectl", "helm"] {
            symlink(tool(program).unwrap(), programs.join(program)).unwrap();
        }
        let programs = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let control_plane = control_plane.unwrap();
        define_certificates_of_cert_manager(&control_plane);
        atlas_objects::serve_kinds(&Client::try_from(config_of(&control_plane.kubeconfig()).await.unwrap()).unwrap()).await;
        Self { control_plane, atlas: atlas.unwrap(), operator: Mutex::default(), election: Mutex::default(), folder, programs }
    }

    /// Starts the operator with the account that the chart made, and has it lead.
    pub async fn start_operator(&self) {
        let account = self.control_plane.service_account_kubeconfig(OPERATOR_NAMESPACE, "usercert-operator").await;
        let mut config = config_of(&account.expect("docs/install.md has installed the chart")).await.unwrap();
        config.default_retry = false;
        let identity = process_name(Some("usercert-operator-0"), "");
        let candidate = Candidate::new(OPERATOR_NAMESPACE, "usercert-operator", identity);
        let (_, teller) = Leadership::standing_by();
        let mut election = Election::new(Client::try_from(config.clone()).unwrap(), candidate, teller);
        election.acquire().await;
        *self.election.lock().unwrap() = Some(tokio::spawn(async move { election.hold().await }).abort_handle());
        let scope = Scope::Cluster { operator_namespace: OPERATOR_NAMESPACE.to_owned() };
        let operator = Operator::new(config, vec![scope], self.atlas.url());
        let readiness = operator.start(&tokio::runtime::Handle::current());
        eventually("the operator is ready", || async { readiness.is_ready().then_some(()) }).await;
        *self.operator.lock().unwrap() = Some(operator);
    }

    /// Ends the operator, which leaves its metrics with the evidence.
    pub fn stop_operator(&self) {
        if let Some(operator) = self.operator.lock().unwrap().take() {
            operator.kill();
        }
        if let Some(election) = self.election.lock().unwrap().take() {
            election.abort();
        }
    }

    /// Runs the commands of a page, in their order.
    pub fn run(&self, page: &Page) {
        let scene = Scene::of(self, page);
        scene.prepare(page);
        for command in page.commands_to_run() {
            scene.before(&command);
            scene.run(&command);
            scene.after(&command);
        }
    }
}

impl<'a> Scene<'a> {
    fn of(stage: &'a Stage, page: &'a Page) -> Self {
        let name = page.name();
        let slug = name.trim_end_matches(".md").replace('/', "-").to_lowercase();
        // The chart's README looks at the API server's own objects.
        let namespace = if name.starts_with("charts") { "default".to_owned() } else { format!("{TOLD_NAMESPACE}-{slug}") };
        let folder = stage.folder.path().join(&slug);
        // It is the home of whoever runs the commands, with a folder for programs.
        fs::create_dir_all(folder.join(".local/bin")).unwrap();
        for entry in ["charts", "examples"] {
            symlink(repository().join(entry), folder.join(entry)).unwrap();
        }
        fs::copy(stage.control_plane.kubeconfig(), folder.join("kubeconfig")).unwrap();
        let hash = slug.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(131).wrapping_add(u64::from(byte)));
        let (project, public_key) = (format!("{hash:024x}"), format!("key-{slug}"));
        stage.atlas.add_project(&project, &public_key, PRIVATE_API_KEY);
        let client_id = format!("mdb_sa_id_{slug}");
        stage.atlas.add_service_account(&project, &client_id, CLIENT_SECRET);
        for user in ["orders", "bills"] {
            stage.atlas.add_user(&project, user, X509Type::Managed);
        }
        // A program that fails before a pipe is a failure, whatever the one after it says.
        let shell = RefCell::new("set -o pipefail\n".to_owned());
        Self { stage, page: name, namespace, folder, project, public_key, client_id, shell }
    }

    /// Certificate and key of a client, from the CA of this folder.
    fn signed(&self, subject: &str) -> (String, String) {
        let file = |name: &str| self.folder.join(name).display().to_string();
        self.write("extensions", "extendedKeyUsage=clientAuth\n");
        let key = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
        let request = openssl(&["req", "-new", "-key", "/dev/stdin", "-subj", subject], &key);
        let (ca, ca_key, extensions) = (file("ca.pem"), file("ca.key"), file("extensions"));
        let sign = ["x509", "-req", "-CA", &ca, "-CAkey", &ca_key, "-days", "90", "-extfile", &extensions];
        (openssl(&sign, &request), key)
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.folder.join(file), content).unwrap();
    }

    fn apply(&self, objects: &[Value]) {
        self.write("objects.json", &examples::list(objects));
        self.bash("kubectl apply --server-side -f objects.json");
    }

    /// A manifest of the page, for this namespace and for the stand-in.
    fn here(&self, manifest: &str) -> String {
        examples::list(&self.objects_here(manifest))
    }

    fn objects_here(&self, manifest: &str) -> Vec<Value> {
        let mut objects = examples::documents(manifest);
        for object in &mut objects {
            if object["metadata"]["namespace"] == TOLD_NAMESPACE {
                object["metadata"]["namespace"] = json!(self.namespace);
            }
            if let Some(atlas) = object.pointer_mut("/spec/atlas") {
                atlas["projectId"] = json!(self.project);
                atlas["endpoint"] = json!(self.stage.atlas.url());
            }
        }
        objects
    }

    /// The credentials of a page, with those of the stand-in in place of the reader's.
    fn filled_in(&self, text: &str) -> String {
        let text = text.replace("YOUR_CLIENT_ID", &self.client_id).replace("YOUR_CLIENT_SECRET", CLIENT_SECRET);
        assert!(!text.contains("YOUR_"), "{}: nothing stands for {text}", self.page);
        text
    }
}

/// Early, for the garbage collector, which has to let go of such an object, finds new kinds once in half a minute.
fn define_certificates_of_cert_manager(control_plane: &ControlPlane) {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "certificates.cert-manager.io" },
        "spec": {
            "group": "cert-manager.io", "scope": "Namespaced",
            "names": { "kind": "Certificate", "plural": "certificates", "singular": "certificate" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        },
    });
    let (done, said) = kubectl(&control_plane.kubeconfig(), &["create", "-f", "-"], &definition.to_string());
    assert!(done, "{said}");
}

fn tls_secret(name: &str, certificate: &str, key: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": name },
        "stringData": { "tls.crt": certificate, "tls.key": key } })
}

fn issuer(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "usercert.dev/v1alpha1", "kind": "CertificateIssuer", "metadata": { "name": name }, "spec": spec })
}

/// Runs kubectl with this text as its input; what it says, and whether it succeeds.
pub fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Process::new(tool("kubectl").unwrap());
    let output = output_with_input(command.args(arguments).env("KUBECONFIG", kubeconfig), input).unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
