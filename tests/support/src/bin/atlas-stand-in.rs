//! `atlas-stand-in`: the stand-in for the Atlas Administration API as a program.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;
use usercert_test_support::atlas::{DigestAlgorithm, StandIn, StandInConfig, X509Type};

/// Stands in for the MongoDB Atlas Administration API: makes X.509 certificates for database users that no real Atlas knows.
///
/// It prints its URL, then a line for each certificate. GET /ledger lists them. It is for tests and demonstrations only.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The public part of the API key that it accepts.
    #[arg(long, default_value = "demo-public-key")]
    public_key: String,
    /// The private part.
    #[arg(long, default_value = "demo-private-key")]
    private_key: String,
    /// The project that exists.
    #[arg(long, default_value = "5efda6aea3f2ed2e7dd6ce05")]
    project: String,
    /// A database user with X.509 type MANAGED; may be repeated.
    #[arg(long = "user", default_value = "orders")]
    users: Vec<String>,
    /// The algorithm of the digest challenge.
    #[arg(long, value_enum, default_value_t = DigestAlgorithm::Md5)]
    digest: DigestAlgorithm,
    /// Where its RSA keys are kept between starts.
    #[arg(long, default_value = "target/atlas-stand-in")]
    key_pool: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let config = StandInConfig {
        listen: arguments.listen,
        digest: arguments.digest,
        key_pool: arguments.key_pool,
        ..StandInConfig::default()
    };
    eprintln!("atlas-stand-in: preparing RSA keys (some seconds the first time)");
    let atlas = StandIn::start(config).await?;
    atlas.add_project(&arguments.project, &arguments.public_key, &arguments.private_key);
    for user in &arguments.users {
        atlas.add_user(&arguments.project, user, X509Type::Managed);
    }
    println!("{} is a stand-in for Atlas, not the real one", atlas.url());
    let mut told = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for mint in atlas.mints().iter().skip(told) {
            println!("made certificate {} for {} until {}", mint.serial_hexadecimal(), mint.username, mint.not_after);
            told += 1;
        }
    }
}
