//! `mongodb-stand-in`: the stand-in for mongod as a program.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use usercert_test_support::{
    mongodb::{StandIn, StandInConfig},
    tls::TlsFiles,
};

/// Stands in for mongod where a client logs in with a certificate (MONGODB-X509). It stores nothing.
///
/// It prints its address, then a line for each login and each refusal. It is for tests only.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// PEM of the CAs whose client certificates it takes, like `net.tls.CAFile`.
    #[arg(long)]
    ca_file: PathBuf,
    /// A user of `$external`, which is the subject of a certificate; may be repeated.
    #[arg(long = "user", required = true)]
    users: Vec<String>,
    /// A name or address that its own certificate is for; may be repeated.
    #[arg(long = "name", default_values = ["127.0.0.1", "localhost"])]
    names: Vec<String>,
    /// Where to write the CA of its own certificate, for `tlsCAFile`.
    #[arg(long)]
    server_ca_file: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { listen, ca_file, users, names, server_ca_file } = Arguments::parse();
    let tls = TlsFiles::for_names(names)?;
    let ca = fs::read_to_string(&ca_file).with_context(|| format!("could not read {}", ca_file.display()))?;
    fs::write(&server_ca_file, tls.ca_certificate())
        .with_context(|| format!("could not write {}", server_ca_file.display()))?;
    let mongod = StandIn::start(StandInConfig { listen, tls, ca }).await?;
    for user in &users {
        mongod.add_user(user);
    }
    println!("{} is a stand-in for mongod, not the real one", mongod.address());
    let (mut logins, mut refusals) = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for login in mongod.logins().iter().skip(logins) {
            logins += 1;
            println!("{} logged in with certificate {:X} by {}", login.subject, login.serial_number, login.driver);
        }
        for refused in mongod.refusals().iter().skip(refusals) {
            refusals += 1;
            println!("refused connection {}: {:?}", refused.connection, refused.refusal);
        }
    }
}
