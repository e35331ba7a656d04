//! Inputs that follow from a seed. Crates for mutation change values of known types, or need coverage to get anywhere; what gets far
//! without it is to recombine real texts, and to change JSON as the tree that it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;
use serde_json::{Value, json};

/// The longest input: enough for all parsers to see what they see of longer ones.
const LONGEST: usize = 64 * 1024;

/// Pieces that parsers look for, or choke on.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\"",
    b"\\",
    b"\\\"",
    b",",
    b"+",
    b"=",
    b"-",
    b"%",
    b"\xff",
    b"\xc3\xbc",
    b"\xe2\x80\xae",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----BEGIN ",
    b"--atlas-endpoint=https://user:password@host",
    b"--leader-elect",
    b"Proc-Type: 4,ENCRYPTED\n",
    b"\n=====\n",
    b"HTTP/1.1 200 OK\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e999",
    b"1h",
    b"CN=",
    b"qop=\"auth,auth-int\"",
    b"stale=true",
    b"Digest ",
    b"null",
    b"{}",
    b"[]",
    b"2026-11-24T00:00:00Z",
];

/// Makes one input after the other.
pub struct Mutator<'a> {
    random: Rng,
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, target: &str, corpus: &'a [Vec<u8>]) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, target).hash(&mut hasher);
        Self { random: Rng::with_seed(hasher.finish()), corpus }
    }

    /// One of the corpus, changed in one to six ways.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any_input();
        for _ in 0..self.random.u8(1..=6) {
            match serde_json::from_slice::<Value>(&input) {
                Ok(mut value) if value.is_object() && self.random.u8(..) < 200 => {
                    self.change_value(&mut value);
                    input = value.to_string().into_bytes();
                }
                _ => self.change_bytes(&mut input),
            }
        }
        input.truncate(LONGEST);
        input
    }

    fn any_input(&mut self) -> Vec<u8> {
        self.random.choice(self.corpus).cloned().unwrap_or_default()
    }

    fn change_bytes(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(..=input.len());
        let end = (at + self.length()).min(input.len());
        match self.random.u8(0..8) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.random.u8(0..8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.random.u8(..)),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..end].repeat(self.random.usize(1..=8));
                input.splice(at..at, piece);
            }
            5 => {
                let other = self.any_input();
                let from = self.random.usize(..=other.len());
                let to = (from + self.length()).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            6 => input[at..end].reverse(),
            _ => {
                let piece = self.random.choice(PIECES).copied().unwrap_or_default();
                input.splice(at..at, piece.iter().copied());
            }
        }
    }

    /// Mostly short, sometimes a whole text.
    fn length(&mut self) -> usize {
        1 << self.random.u8(0..14)
    }

    /// Changes one place in the tree, chosen on the way down.
    fn change_value(&mut self, value: &mut Value) {
        let children = match value {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if children == 0 || self.random.u8(..) < 24 {
            return self.replace(value);
        }
        let chosen = self.random.usize(..children);
        match value {
            Value::Object(fields) => self.change_field(fields, chosen),
            Value::Array(items) if self.random.u8(..) < 32 => drop(items.remove(chosen)),
            Value::Array(items) if self.random.u8(..) < 32 => items.push(items[chosen].clone()),
            Value::Array(items) => self.change_value(&mut items[chosen]),
            _ => {}
        }
    }

    fn change_field(&mut self, fields: &mut serde_json::Map<String, Value>, chosen: usize) {
        let name = fields.keys().nth(chosen).cloned().unwrap_or_default();
        if self.random.u8(..) < 32 {
            fields.remove(&name);
        } else if let Some(field) = fields.get_mut(&name) {
            self.change_value(field);
        }
    }

    /// By something of the same type mostly, so that it is still read.
    fn replace(&mut self, value: &mut Value) {
        *value = match value {
            _ if self.random.u8(..) < 16 => json!(null),
            Value::Number(_) => {
                let numbers = [0, 1, -1, 2, 24, 90, 255, 65_536, 1_796_000_000, i64::MAX, i64::MIN, i64::MAX / 2];
                json!(self.random.choice(numbers))
            }
            Value::Bool(value) => json!(!*value),
            Value::String(text) if self.random.bool() => {
                let mut bytes = std::mem::take(text).into_bytes();
                self.change_bytes(&mut bytes);
                json!(String::from_utf8_lossy(&bytes))
            }
            Value::String(_) => {
                let texts = [
                    "",
                    "0s",
                    "1h",
                    "99999999999h",
                    "-5m",
                    "CN=a",
                    "CN=a+UID=b",
                    ".",
                    "..",
                    "a/b?c#d",
                    "*",
                    "True",
                    "1",
                    "0000-01-01T00:00:00Z",
                    "9999-12-30T22:00:00Z",
                    "9999-12-31T23:59:59Z",
                    "2026-11-24T00:00:00Z",
                    "RSA 4096",
                    "Ed25519",
                    "MANAGED",
                ];
                json!(self.random.choice(texts))
            }
            _ => json!({}),
        };
    }
}
