//! A connection after its handshake: who is logged in on it.

use std::{collections::BTreeSet, sync::Mutex};

use bson::Document;

use super::{
    ledger::{Ledger, Login, Refusal, lock},
    users::Identity,
};

/// What a connection knows.
pub(super) struct Session<'a> {
    pub(super) connection: u64,
    pub(super) identity: Identity,
    /// The client's driver and its version, as its hello tells them.
    pub(super) driver: String,
    /// The name of the user that is logged in.
    pub(super) user: Option<String>,
    pub(super) users: &'a Mutex<BTreeSet<String>>,
    pub(super) ledger: &'a Ledger,
}

impl Session<'_> {
    /// Logs in as this document asks, by itself or within a hello.
    pub(super) fn authenticate(&mut self, asked: &Document, speculative: bool) -> Result<Document, Refusal> {
        if let Err(refusal) = self.may_log_in(asked, speculative) {
            self.ledger.refuse(self.connection, refusal.clone());
            return Err(refusal);
        }
        let subject = self.identity.subject.clone();
        self.ledger.let_in(Login {
            connection: self.connection,
            subject: subject.clone(),
            serial_number: self.identity.serial_number,
            driver: self.driver.clone(),
            speculative,
        });
        self.user = Some(subject.clone());
        Ok(bson::doc! { "dbname": "$external", "user": subject })
    }

    fn may_log_in(&self, asked: &Document, speculative: bool) -> Result<(), Refusal> {
        let text = |key: &str| asked.get_str(key).ok();
        if text("mechanism") != Some("MONGODB-X509") {
            return Err(Refusal::OtherMechanism(text("mechanism").unwrap_or_default().to_owned()));
        }
        // Within a hello the document may name the database and is for `$external` by default; else it is that of the command.
        let database = if speculative { text("db").unwrap_or("$external") } else { text("$db").unwrap_or_default() };
        if database != "$external" {
            return Err(Refusal::OtherDatabase(database.to_owned()));
        }
        let subject = &self.identity.subject;
        match text("user").filter(|user| !user.is_empty()) {
            Some(user) if user != subject => Err(Refusal::OtherUser(user.to_owned())),
            _ if !lock(self.users).contains(subject) => Err(Refusal::UnknownUser(subject.clone())),
            _ => Ok(()),
        }
    }
}
