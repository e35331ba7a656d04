//! The cluster with its node, the stand-in for Atlas that Pods can reach, and the commands of an administrator.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::process::Command;
use usercert_operator::api::DatabaseUserCertificate;
use usercert_test_support::{
    atlas::{StandIn, StandInConfig, X509Type},
    control_plane::{repository, tool},
    node::{
        self, Isolated, Node,
        image::{self, ImageConfig},
    },
};

/// The namespace of the consumers and their certificates.
pub const SHOP: &str = "shop";
/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "usercert-system";
/// The image of the consumers.
pub const CONSUMER_IMAGE: &str = "usercert-test-consumer:1";
/// The database user of whose certificates Atlas is asked; the one of the examples.
pub const ATLAS_USER: &str = "orders";

const PROJECT: &str = "5efda6aea3f2ed2e7dd6ce05";

/// Everything that stands while the scenario plays.
pub struct Cluster {
    pub node: Node,
    pub atlas: StandIn,
    pub client: Client,
    pub directory: PathBuf,
}

impl Cluster {
    pub async fn start(place: &Isolated) -> Result<Self> {
        let directory = place.directory().to_owned();
        let (operator, consumer) = (directory.join("operator.tar"), directory.join("consumer.tar"));
        build_images(&operator, &consumer)?;
        let node = Node::start(place, &[&operator, &consumer]).await?;
        let atlas = StandIn::start(StandInConfig {
            listen: SocketAddr::new(node::network::NODE.into(), 0),
            tls: true,
            ..StandInConfig::default()
        })
        .await?;
        atlas.add_project(PROJECT, "your-public-key", "your-private-key");
        atlas.add_user(PROJECT, ATLAS_USER, X509Type::Managed);
        let client = node.control_plane().admin().await?;
        Ok(Self { node, atlas, client, directory })
    }

    /// Where Pods find the stand-in, by its name.
    pub fn atlas_url(&self) -> String {
        self.atlas.url().replace(&node::network::NODE.to_string(), node::names::NAME)
    }

    pub fn certificates(&self) -> Api<DatabaseUserCertificate> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    /// The serial number that the status of a certificate has.
    pub async fn serial(&self, certificate: &str) -> Result<Option<String>> {
        Ok(self.certificates().get(certificate).await?.status.and_then(|status| status.serial_number))
    }

    /// Asks for a new certificate now.
    pub async fn renew(&self, certificate: &str, value: &str) -> Result<()> {
        let annotation = format!("usercert.dev/renew-requested-at={value}");
        self.kubectl(&["annotate", "--overwrite", "databaseusercertificate", certificate, &annotation]).await.map(|_| ())
    }

    /// Applies manifests.
    pub async fn apply(&self, name: &str, manifests: &str) -> Result<()> {
        let file = self.directory.join(name);
        fs::write(&file, manifests)?;
        self.kubectl(&["apply", "--filename", &file.display().to_string()]).await.map(|_| ())
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", &[&["--namespace", SHOP], arguments].concat()).await
    }

    /// Runs one of the tools as the administrator. Others go on meanwhile: what they do is timed.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(tool(program)?)
            .args(arguments)
            .env("KUBECONFIG", self.node.control_plane().kubeconfig())
            .stdin(Stdio::null())
            .output()
            .await?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{program} {arguments:?} failed: {}", stderr.trim());
        Ok(stdout.trim_end().to_owned())
    }
}

fn build_images(operator: &std::path::Path, consumer: &std::path::Path) -> Result<()> {
    let config = ImageConfig::of_dockerfile(&fs::read_to_string(repository().join("Dockerfile"))?)?;
    let (built, released) = (std::env::current_exe()?, repository().join("target/release"));
    // The tests' own programs are beside the folder that this one is in.
    let consumers = built.ancestors().nth(2).context("this program is in no folder")?;
    let chart = fs::read_to_string(repository().join("charts/usercert-operator/Chart.yaml"))?;
    let version = chart.lines().find_map(|line| line.strip_prefix("appVersion: ")).context("the chart has no appVersion")?;
    image::build(&released.join("usercert-operator"), &[(format!("usercert-operator:{version}"), config)], operator)?;
    let consumer_config = |more: &[&str]| ImageConfig {
        user: "65532:65532".to_owned(),
        entrypoint: [&["/secret-reader"], more].concat().into_iter().map(ToOwned::to_owned).collect(),
        labels: BTreeMap::new(),
    };
    let images =
        [(CONSUMER_IMAGE.to_owned(), consumer_config(&[])), (node::PAUSE_IMAGE.to_owned(), consumer_config(&["pause"]))];
    image::build(&consumers.join("secret-reader"), &images, consumer).map(|_| ())
}
