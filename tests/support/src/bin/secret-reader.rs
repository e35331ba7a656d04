//! `secret-reader`: what runs in the Pods of `make e2e`.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode as _};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

/// What to do.
#[derive(Subcommand)]
enum Action {
    /// Tell the serial number of each file's certificate, at start and after each change, as a driver would load it.
    Watch {
        /// PEM files with a certificate and its key.
        files: Vec<PathBuf>,
    },
    /// Succeed if all of the files can be loaded.
    Check {
        /// As above.
        files: Vec<PathBuf>,
    },
    /// Do nothing: the container that keeps a Pod's namespaces.
    Pause,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    match Arguments::parse().command {
        Action::Check { files } => files.iter().try_for_each(|file| load(file).map(|_| ())),
        Action::Pause => {
            terminated.recv().await;
            Ok(())
        }
        Action::Watch { files } => {
            thread::spawn(move || watch(&files));
            terminated.recv().await;
            Ok(())
        }
    }
}

/// Looks ten times a second. What cannot be loaded is told as well, for a Pod must never see half a pair.
fn watch(files: &[PathBuf]) {
    let mut told = vec![String::new(); files.len()];
    loop {
        for (file, told) in files.iter().zip(&mut told) {
            let line = load(file).unwrap_or_else(|error| format!("unusable: {error:#}"));
            if line != *told {
                println!("{} {line}", file.display());
                *told = line;
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The serial number in hexadecimal, if the key fits the certificate.
fn load(file: &PathBuf) -> Result<String> {
    let pem = fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().context("not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&pem).context("no key")?;
    let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).context("no pair")?;
    let certificate = Certificate::from_der(pair.end_entity_cert()?)?;
    Ok(hex::encode_upper(certificate.tbs_certificate().serial_number().as_bytes()))
}
