//! The operator's program as a process of its own, and a clock for it that is wrong.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use usercert_test_support::{command::command_alone, control_plane::free_address, evidence};

use crate::harness::{Shop, eventually};

/// The program, killed when dropped.
pub struct Operator {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Drop for Operator {
    fn drop(&mut self) {
        evidence::ended(&self.address, &self.log, || {
            // It may have ended.
            _ = self.child.kill();
            _ = self.child.wait();
        });
    }
}

impl Operator {
    /// Starts it, and waits until it leads. `preload`: a library that is loaded before all others.
    pub async fn start(shop: &Shop, name: &str, preload: Option<&Path>) -> Self {
        let kubeconfig = shop.cluster.operator_kubeconfig().await;
        let address = free_address().unwrap().to_string();
        let log = shop.cluster.control_plane.directory().join(format!("{name}.log"));
        let mut command = command_alone(env!("CARGO_BIN_EXE_usercert-operator"));
        command
            .args(["run", "--pod-name", name, "--debug-address", "off", "--http-address", &address])
            .args(["--allowed-atlas-endpoint", &shop.endpoint])
            .env("KUBECONFIG", kubeconfig)
            .stderr(File::create(&log).unwrap());
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let operator = Self { child: command.spawn().unwrap(), address, log };
        eventually(&format!("{name} leads: see {}", operator.log.display()), || async {
            let ready = reqwest::get(format!("http://{}/readyz", operator.address)).await.ok()?;
            ready.text().await.ok()?.contains("this process leads").then_some(())
        })
        .await;
        operator
    }
}

/// A library that has a process see the time of day an hour from now, and half a minute, for the API server tells whole seconds.
pub fn an_hour_ahead(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("ahead.c"), folder.join("ahead.so"));
    let text = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
        int clock_gettime(clockid_t clock, struct timespec *now) {\n\
          int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");\n\
          int result = real(clock, now);\n\
          if (clock == CLOCK_REALTIME) now->tv_sec += 3630;\n\
          return result;\n\
        }\n";
    std::fs::write(&source, text).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    library
}
