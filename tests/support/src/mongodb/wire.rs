//! The messages of MongoDB's wire protocol, as far as logins and an empty collection need them.
//!
//! Source: the MongoDB wire protocol of the server's manual, and the `OP_MSG` specification of the drivers.

use std::io::Cursor;

use anyhow::{Context as _, Result, bail, ensure};
use bson::Document;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;

/// No message of a login or a query on an empty collection is longer, in bytes.
const LONGEST: usize = 1 << 20;

const CHECKSUM_PRESENT: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;

/// What a client sent.
#[derive(Debug)]
pub(super) struct Request {
    id: i32,
    /// The old form, in which drivers say hello.
    is_query: bool,
    /// The client waits for an answer.
    pub(super) wants_answer: bool,
    pub(super) command: Document,
}

/// Reads a message; `None` if the client has closed the connection between two.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Request>> {
    let mut header = [0; HEADER];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let field = |number: usize| header[4 * number..].first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
    let (length, id, operation) = (usize::try_from(field(0))?, field(1), field(3));
    ensure!((HEADER..=LONGEST).contains(&length), "a message of {length} bytes");
    let mut body = vec![0; length - HEADER];
    stream.read_exact(&mut body).await?;
    match operation {
        OP_QUERY => query(id, &body).map(Some),
        OP_MSG => message(id, &body).map(Some),
        other => bail!("an operation {other} is not spoken here"),
    }
}

/// flags, the name of a collection up to a zero, two numbers, the command.
fn query(id: i32, body: &[u8]) -> Result<Request> {
    let (_flags, rest) = body.split_first_chunk::<4>().context("a query without flags")?;
    let end = rest.iter().position(|&byte| byte == 0).context("the collection's name has no end")?;
    let (collection, rest) = (std::str::from_utf8(&rest[..end])?, &rest[end + 1..]);
    let database = collection.strip_suffix(".$cmd").context("a query that is not a command")?;
    let document = rest.get(8..).context("a query without a command")?;
    let mut command = Document::from_reader(&mut Cursor::new(document))?;
    command.insert("$db", database);
    Ok(Request { id, is_query: true, wants_answer: true, command })
}

/// flags, then sections: one of kind 0 is the command, those of kind 1 are lists that belong into it.
fn message(id: i32, body: &[u8]) -> Result<Request> {
    let (flags, mut rest) = body.split_first_chunk::<4>().context("a message without flags")?;
    let flags = u32::from_le_bytes(*flags);
    if flags & CHECKSUM_PRESENT != 0 {
        rest = rest.split_last_chunk::<4>().context("a message without its checksum")?.0;
    }
    let (mut command, mut lists) = (None, Vec::new());
    while let Some((kind, section)) = rest.split_first() {
        let length = section.first_chunk().map(|bytes| i32::from_le_bytes(*bytes)).context("a section without its length")?;
        let (section, after) = section.split_at_checked(usize::try_from(length)?).context("a section is cut short")?;
        match kind {
            0 => command = Some(Document::from_reader(&mut Cursor::new(section))?),
            1 => lists.push(list(section)?),
            other => bail!("a section of kind {other}"),
        }
        rest = after;
    }
    let mut command = command.context("a message without a command")?;
    command.extend(lists.into_iter().map(|(name, documents)| (name, documents.into())));
    Ok(Request { id, is_query: false, wants_answer: flags & MORE_TO_COME == 0, command })
}

/// The length that was read already, a name up to a zero, documents.
fn list(section: &[u8]) -> Result<(String, Vec<Document>)> {
    let rest = &section[4..];
    let end = rest.iter().position(|&byte| byte == 0).context("the list's name has no end")?;
    let name = std::str::from_utf8(&rest[..end])?.to_owned();
    let mut documents = Cursor::new(&rest[end + 1..]);
    let mut list = Vec::new();
    while documents.position() < documents.get_ref().len() as u64 {
        list.push(Document::from_reader(&mut documents)?);
    }
    Ok((name, list))
}

/// Sends an answer in the form in which the client asked.
pub(super) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, request: &Request, answer: &Document) -> Result<()> {
    let mut body = Vec::new();
    if request.is_query {
        // flags (await capable), no cursor, from 0, one document
        body.extend(8_i32.to_le_bytes());
        body.extend(0_i64.to_le_bytes());
        body.extend(0_i32.to_le_bytes());
        body.extend(1_i32.to_le_bytes());
    } else {
        body.extend(0_u32.to_le_bytes());
        body.push(0);
    }
    answer.to_writer(&mut body)?;
    let operation = if request.is_query { OP_REPLY } else { OP_MSG };
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    for field in [i32::try_from(HEADER + body.len())?, 0, request.id, operation] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(body);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}
