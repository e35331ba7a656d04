//! A stand-in for mongod at the point where a client logs in with a certificate. It is for tests only and stores nothing.
//!
//! It does what mongod does there: it asks every client for a certificate, verifies the chain, the time and the extended key usage,
//! takes the subject in the form of RFC 2253 for the user's name, and lets in the users that it was told. Its ledger names who
//! logged in with which certificate, and who was refused why. The official drivers are its clients.

mod commands;
mod ledger;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod users;
mod wire;

pub use ledger::{Login, Refusal, Refused};
pub use server::{StandIn, StandInConfig};
