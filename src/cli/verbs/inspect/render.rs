//! The answer for people.

use jiff::Timestamp;

use super::inspection::{Inspection, KeyFit, Place, ToldCertificate, ToldSecret};
use crate::{
    table::{Cell, Table},
    terminal::{Mood, Terminal},
    text::{append, paragraph, relative},
};

/// All that was found, with what is wrong last.
pub(super) fn render(inspection: &Inspection, terminal: &Terminal, now: Timestamp) -> String {
    let words = |text: &str| paragraph(Cell::whole(text).text(), 2, terminal);
    let title = |text: &str| format!("{}\n", terminal.paint(Mood::Title, Cell::whole(text).text()));
    let mut text = title(&inspection.source);
    for certificate in &inspection.certificates {
        let ToldCertificate { subject, issuer, serial_number, private_key, not_before, not_after, place } = certificate;
        let place = match place {
            Place::Leaf => "Certificate",
            Place::Above => "Above it",
            Place::Beside => "Beside it",
        };
        text.push_str(&words(&format!("{place}: {subject}, serial number {serial_number}, key {private_key}")));
        text.push_str(&words(&format!("issued by {issuer}; from {not_before} to {not_after} ({})", relative(*not_after, now))));
    }
    let key = match inspection.key {
        KeyFit::Fits => "Key: fits the certificate",
        KeyFit::DoesNotFit => "Key: cannot be used with the certificate",
        KeyFit::Absent => "Key: none here",
    };
    text.push_str(&words(key));
    let end = inspection.chain_ends.map(|end| format!(", until {end} ({})", relative(end, now))).unwrap_or_default();
    match inspection.leads_to_ca {
        Some(true) => text.push_str(&words(&format!("Chain: leads to the CA{end}"))),
        Some(false) => text.push_str(&words("Chain: does not lead to the CA")),
        None => text.push_str(&words("Chain: no CA given to compare with")),
    }
    if let Some(secret) = &inspection.secret {
        let controller = secret.controller.as_deref().unwrap_or("nobody");
        text.push_str(&words(&format!("Secret: type {}, controlled by {controller}", secret.type_)));
        text.push_str(&words(&format!("Entries: {}", secret.entries.join(", "))));
        text.push_str(&consumers(secret, terminal));
    }
    for (heading, sentences) in [("Problems", &inspection.problems), ("Not looked at", &inspection.notes)] {
        if !sentences.is_empty() {
            append(&mut text, format_args!("\n{}", title(heading)));
            text.extend(sentences.iter().map(|sentence| words(sentence)));
        }
    }
    text
}

fn consumers(secret: &ToldSecret, terminal: &Terminal) -> String {
    if secret.consumers.is_empty() {
        return paragraph("Consumers: no running Pod uses it", 2, terminal);
    }
    let mut table = Table::new(["POD", "MADE BY", "USES IT AS", "FOLLOWS WITHOUT A RESTART"]);
    for consumer in &secret.consumers {
        let follows = if consumer.updated_in_place { "if it reads its files again" } else { "no" };
        table.push([
            consumer.pod.as_str().into(),
            consumer.made_by.clone().unwrap_or_default().into(),
            consumer.uses.into(),
            follows.into(),
        ]);
    }
    format!("\n{}", table.render(terminal))
}
