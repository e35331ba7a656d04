//! The body of an answer.
//!
//! # Guarantees
//!
//! - It has a limit of bytes.
//! - The buffer for an answer, which may hold a key, is zeroized on drop. It never grows, so it leaves no copies behind.

use reqwest::Response;
use zeroize::Zeroizing;

/// An answer that could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is longer than its limit.
    #[error("it is too long")]
    TooLong,
    /// It was cut off.
    #[error("it did not end in time, or the connection broke")]
    Broken,
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // The buffer has its full size from the start. A buffer that grows would leave copies of a key behind.
    let mut body = Zeroizing::new(Vec::with_capacity(limit));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(ReadError::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(ReadError::Broken),
        }
    }
}
