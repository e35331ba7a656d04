//! The only name server of the Pods: it knows the names that it was told, and nothing is asked further.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;

use super::network::NODE;

/// The name that is known from the start; the certificate of the stand-in for Atlas has it.
pub const NAME: &str = "atlas.test";

static KNOWN: LazyLock<Mutex<BTreeMap<String, Ipv4Addr>>> = LazyLock::new(|| Mutex::new([(NAME.to_owned(), NODE)].into()));

/// Tells the name server of a name, such as that of a Service.
pub fn add(name: &str, address: Ipv4Addr) {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_ascii_lowercase(), address);
}

fn address_of(name: &str) -> Option<Ipv4Addr> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
}

/// Answers, on the node's own address, until the runtime ends.
pub(super) async fn serve() -> Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from((NODE, 53))).await.context("could not listen on the port of name servers")?;
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = answer(&buffer[..length], address_of) {
                // Who gets no answer asks again.
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    Ok(())
}

/// The answer to a message with one question (RFC 1035, 4.1); `None` if it is not one.
pub fn answer(message: &[u8], address_of: impl Fn(&str) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    const ADDRESS: [u8; 4] = [0, 1, 0, 1];
    let (header, mut rest) = message.split_at_checked(12)?;
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        if label.is_empty() {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let type_and_class = rest.get(..4)?;
    let known = address_of(&labels.join("."));
    let found = known.filter(|_| type_and_class == ADDRESS);
    // Bits: an answer, authoritative, recursion as asked for and available; then "no such name" for every other name.
    let flags = [0x85, if known.is_some() { 0x80 } else { 0x83 }];
    let question = &message[12..message.len() - rest.len() + 4];
    let mut answer = [&header[..2], &flags, &[0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0], question].concat();
    if let Some(address) = found {
        // The name of the question, an address, for five seconds.
        answer.extend([&[0xC0, 12], &ADDRESS[..], &[0, 0, 0, 5, 0, 4], &address.octets()[..]].concat());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut message = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        message
    }

    #[test]
    fn a_name_that_was_told_is_known_and_every_other_does_not_exist() {
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let answer = |message: &[u8]| answer(message, |name| (name == "atlas.test").then_some(address));
        let found = answer(&question("Atlas.test", 1)).unwrap();
        assert_eq!((&found[..4], &found[found.len() - 4..]), (&[7, 9, 0x85, 0x80][..], &address.octets()[..]));
        let (counts, of_question) = (&found[4..12], question("Atlas.test", 1).len());
        assert_eq!(counts, [0, 1, 0, 1, 0, 0, 0, 0]);
        let empty = answer(&question("atlas.test", 28)).unwrap();
        assert_eq!((empty[3], empty[7], empty.len()), (0x80, 0, of_question));
        let unknown = answer(&question("atlas.test.svc.cluster.local", 1)).unwrap();
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
        assert_eq!(answer(&[0; 5]), None);
        assert_eq!(answer(&question("atlas.test", 1)[..20]), None);
    }
}
