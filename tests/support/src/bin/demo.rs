//! `make demo`: from nothing to two certificates, on a real Kubernetes API server. Each command is shown before it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use usercert_test_support::{
    command::{run, until},
    control_plane::{ControlPlane, Supervised, free_address, repository, tool},
    node,
};

const NAMESPACE: &str = "shop";
const OPERATOR_NAMESPACE: &str = "usercert-system";

/// Shows usercert-operator at work: a real control plane on loopback, the chart, both issuers, one forced renewal.
#[derive(Parser)]
struct Arguments {
    /// Leave everything up until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// The operator's program.
    #[arg(long, default_value = "target/release/usercert-operator")]
    operator: PathBuf,
    /// Only say whether a node can run here, for the wave of restarts that `make demo` shows last. Fails if it cannot.
    #[arg(long)]
    find_node: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.find_node {
        find_node();
        return Ok(());
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok().context("another TLS provider is installed")?;
    tokio::select! {
        result = demo(&arguments) => result,
        _ = tokio::signal::ctrl_c() => {
            ensure!(arguments.keep, "interrupted; everything is stopped");
            println!("everything is stopped");
            Ok(())
        }
    }
}

fn find_node() {
    if let Some(missing) = node::missing() {
        say(&format!("how workloads follow a renewal is not shown: {missing}"));
        std::process::exit(1);
    }
    say("a node can run here: workloads follow a renewal on it, while the operator's Pod is deleted (minutes)");
}

async fn demo(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    say("starting etcd, kube-apiserver and kube-controller-manager on loopback (10 seconds or so)");
    let control_plane = told("the control plane is ready", ControlPlane::start()).await?;
    let demo = Demo { kubeconfig: control_plane.kubeconfig(), directory: control_plane.directory().to_owned() };
    println!("  ready after {} s", started.elapsed().as_secs());

    let atlas = demo.start_atlas().await?;
    demo.install_chart()?;
    let operator = demo.start_operator(&arguments.operator, &control_plane).await?;
    let shown = demo.show().await;
    if let Err(error) = shown {
        println!("\nthe operator's last lines:\n{}", tail(operator.log()));
        return Err(error);
    }
    println!("\nThe Atlas that was asked is a stand-in on this machine; the real one was not contacted.");
    println!("Done in {} s.", started.elapsed().as_secs());
    if arguments.keep {
        println!("\nEverything stays up until Ctrl-C. In another shell:\n  export KUBECONFIG={}", demo.kubeconfig.display());
        println!("The operator's log: {}", operator.log().display());
        std::future::pending::<()>().await;
    }
    drop((operator, atlas));
    Ok(())
}

struct Demo {
    kubeconfig: PathBuf,
    directory: PathBuf,
}

impl Demo {
    async fn start_atlas(&self) -> Result<Supervised> {
        say("starting the stand-in for Atlas (it makes RSA keys of 4,096 bits the first time)");
        let log = self.directory.join("atlas-stand-in.log");
        let pool = repository().join("target/atlas-stand-in");
        let arguments = [
            format!("--key-pool={}", pool.display()),
            "--user=orders".to_owned(),
            "--public-key=your-public-key".to_owned(),
            "--private-key=your-private-key".to_owned(),
        ];
        let process = Supervised::spawn(&beside_us("atlas-stand-in")?, &arguments, &[], &log)?;
        let url = told_until("the stand-in listens", 120, async || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            Ok(text.split_whitespace().find(|word| word.starts_with("http://")).map(ToOwned::to_owned))
        })
        .await?;
        println!("  {url} is a stand-in for Atlas, not the real one");
        fs::write(self.directory.join("atlas.url"), &url)?;
        Ok(process)
    }

    fn install_chart(&self) -> Result<()> {
        say("installing the chart; without a node the operator runs as a process instead of a Pod");
        let chart = repository().join("charts/usercert-operator").display().to_string();
        let arguments = [
            "install",
            "usercert-operator",
            &chart,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--create-namespace",
            "--set",
            "replicaCount=0",
        ];
        self.run("helm", &arguments).map(|_| ())
    }

    async fn start_operator(&self, program: &Path, control_plane: &ControlPlane) -> Result<Supervised> {
        say("starting the operator with a token of the chart's ServiceAccount, so that the chart's RBAC is in force");
        let kubeconfig = control_plane.service_account_kubeconfig(OPERATOR_NAMESPACE, "usercert-operator").await?;
        let address = free_address()?;
        let environment = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("POD_NAMESPACE", OPERATOR_NAMESPACE.to_owned()),
            ("HTTP_ADDRESS", address.to_string()),
            // The stand-in; by default a CertificateIssuer may name the real Atlas alone.
            ("ALLOWED_ATLAS_ENDPOINTS", fs::read_to_string(self.directory.join("atlas.url"))?),
        ];
        let log = self.directory.join("usercert-operator.log");
        Supervised::spawn_alone(&built(program.to_owned())?, &["run".to_owned()], &environment, &log)
    }

    async fn show(&self) -> Result<()> {
        self.apply_examples()?;
        for name in ["orders", "reports"] {
            let resource = format!("databaseusercertificate/{name}");
            self.kubectl(&["wait", "--for=condition=Ready", &resource, "--timeout=60s"])?;
        }
        self.kubectl(&["get", "databaseusercertificates"])?;
        for secret in ["orders-mongodb", "reports-database"] {
            say(&format!("the Secret {secret}: its keys, and what openssl says of its certificate"));
            let keys =
                self.quiet(&["get", "secret", secret, "-o", "go-template={{range $key, $_ := .data}}{{$key}} {{end}}"])?;
            println!("  keys: {keys}");
            self.save(secret, "tls.crt")?;
            let certificate = self.file(secret, "tls.crt");
            self.run("openssl", &["x509", "-noout", "-subject", "-issuer", "-dates", "-serial", "-in", &certificate])?;
        }
        self.save("reports-database", "ca.crt")?;
        let (ca, leaf) = (self.file("reports-database", "ca.crt"), self.file("reports-database", "tls.crt"));
        self.run("openssl", &["verify", "-purpose", "sslclient", "-CAfile", &ca, &leaf])?;
        self.renew("orders").await
    }

    fn apply_examples(&self) -> Result<()> {
        say("applying examples/: an Atlas issuer (pointed at the stand-in), a CA issuer, and a certificate from each");
        let example = |name: &str| repository().join("examples").join(name).display().to_string();
        self.kubectl_in(None, &["apply", "-f", &example("namespace.yaml")])?;
        let (key, certificate) = (self.path("ca.key"), self.path("ca.crt"));
        self.run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:3072",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/O=Acme/CN=MongoDB users",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        )?;
        self.kubectl(&["create", "secret", "tls", "database-users-ca", "--cert", &certificate, "--key", &key])?;
        let url = fs::read_to_string(self.directory.join("atlas.url"))?;
        let atlas = fs::read_to_string(repository().join("examples/atlas.yaml"))?;
        ensure!(atlas.contains("https://cloud.mongodb.com"), "examples/atlas.yaml names another endpoint than the real Atlas");
        let pointed = self.path("atlas.yaml");
        fs::write(&pointed, atlas.replace("https://cloud.mongodb.com", &url))?;
        self.kubectl(&["apply", "-f", &pointed])?;
        self.kubectl(&["apply", "-f", &example("ca.yaml")])?;
        Ok(())
    }

    async fn renew(&self, name: &str) -> Result<()> {
        say(&format!("forcing one renewal of {name}"));
        let serial = || self.quiet(&["get", "databaseusercertificate", name, "-o", "jsonpath={.status.serialNumber}"]);
        let before = serial()?;
        self.kubectl(&["annotate", "--overwrite", "databaseusercertificate", name, "usercert.dev/renew-requested-at=now"])?;
        let renewed = async || Ok(Some(serial()?).filter(|serial| *serial != before));
        let after = told_until("the certificate is renewed", 60, renewed).await?;
        println!("  serial number before: {before}\n  serial number after:  {after}");
        self.kubectl(&["events", "--for", &format!("databaseusercertificate/{name}")]).map(|_| ())
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn file(&self, secret: &str, key: &str) -> String {
        self.path(&format!("{secret}.{key}"))
    }

    /// Writes one key of a Secret to a file.
    fn save(&self, secret: &str, key: &str) -> Result<()> {
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let text = self.quiet(&["get", "secret", secret, "-o", &template])?;
        fs::write(self.file(secret, key), text + "\n").context("could not write the certificate")
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_in(Some(NAMESPACE), arguments)
    }

    fn kubectl_in(&self, namespace: Option<&str>, arguments: &[&str]) -> Result<String> {
        let namespace = namespace.map(|namespace| ["--namespace", namespace]);
        self.run("kubectl", &[namespace.iter().flatten().copied().collect(), arguments.to_vec()].concat())
    }

    fn quiet(&self, arguments: &[&str]) -> Result<String> {
        self.output("kubectl", &[&["--namespace", NAMESPACE], arguments].concat())
    }

    /// Shows a command, runs it, and shows what it prints.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let shown: Vec<String> = arguments
            .iter()
            .map(|argument| if argument.contains(' ') { format!("'{argument}'") } else { (*argument).to_owned() })
            .collect();
        println!("$ {program} {}", shown.join(" "));
        let output = self.output(program, arguments)?;
        for line in output.lines() {
            println!("  {line}");
        }
        Ok(output)
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let path = if program == "openssl" { PathBuf::from(program) } else { tool(program)? };
        run(Command::new(path).args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }
}

/// Waits for something, and tells of it every two seconds.
async fn told<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_secs(2), &mut work).await {
            Ok(result) => return result,
            Err(_) => println!("  waiting until {what} ({} s)", started.elapsed().as_secs()),
        }
    }
}

/// Asks again until there is an answer, and tells of it.
async fn told_until<T>(what: &str, seconds: u64, question: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    told(what, until(what, seconds, question)).await
}

/// A program that was built together with this one.
fn beside_us(name: &str) -> Result<PathBuf> {
    built(std::env::current_exe()?.with_file_name(name))
}

fn built(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.is_file(), "{} is missing: run make demo", path.display());
    Ok(path)
}

fn say(what: &str) {
    println!("\n=== {what}");
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(30).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
