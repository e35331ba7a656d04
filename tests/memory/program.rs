//! The program as a process of its own, and what it takes.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Child,
    time::{Duration, Instant},
};

use usercert_test_support::{command::command_alone, control_plane::free_ports, evidence};

use crate::harness::{Shop, eventually};

/// The process; killed when dropped.
pub struct Program {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        evidence::ended(self.url.trim_start_matches("http://"), &self.log, || {
            let _ = self.child.kill();
            let _ = self.child.wait();
        });
    }
}

/// What a process takes.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// In bytes.
    pub memory: usize,
    /// The most memory since its start, in bytes.
    pub peak: usize,
    pub sockets: usize,
}

impl Program {
    /// Starts it, and waits until it is ready and has nothing to do. Issuers of namespaces may name this endpoint.
    pub async fn start(shop: &Shop, endpoint: &str) -> Self {
        let control_plane = &shop.cluster.control_plane;
        let token = control_plane.service_account_kubeconfig("usercert-system", "usercert-operator").await.unwrap();
        let [port] = free_ports().unwrap();
        let log = control_plane.directory().join("memory.log");
        let child = command_alone(env!("CARGO_BIN_EXE_usercert-operator"))
            // Without a lease the next start need not wait for this one's to end.
            .args(["run", "--leader-elect=false", "--http-address", &format!("127.0.0.1:{port}"), "--pod-name", "memory"])
            .args(["--allowed-atlas-endpoint", endpoint])
            .env("KUBECONFIG", token)
            .env("RUST_LOG", "info")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .env("MALLOC_TRIM_THRESHOLD_", "131072")
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let program = Self { child, url: format!("http://127.0.0.1:{port}"), log };
        eventually("the program is ready", || async {
            reqwest::get(format!("{}/readyz", program.url)).await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
        program.until_at_rest().await;
        program
    }

    /// Reads its metrics as Prometheus would; the text.
    pub async fn scrape(&self) -> String {
        reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap()
    }

    fn processor_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Waits until it takes next to no processor time.
    pub async fn until_at_rest(&self) {
        let started = Instant::now();
        loop {
            let before = self.processor_time();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.processor_time() - before <= 2 {
                return;
            }
            assert!(started.elapsed() < Duration::from_mins(2), "it does not come to rest");
        }
    }

    pub fn taken(&self) -> Taken {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
        };
        let files = fs::read_dir(format!("{process}/fd")).unwrap();
        let is_socket = |file: std::io::Result<fs::DirEntry>| {
            fs::read_link(file.unwrap().path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        Taken { memory: bytes("VmRSS:"), peak: bytes("VmHWM:"), sockets: files.map(is_socket).filter(|is| *is).count() }
    }
}
