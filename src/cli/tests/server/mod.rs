//! An API server on loopback, a kubeconfig for it, and the program.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use usercert_test_support::command::command_alone;

/// What is answered to a request.
#[derive(Clone)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

/// Answers each request by its method, its path and its query. Returns the server's address.
pub fn serve(answer: impl Fn(&str, &str, &str) -> Response + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // Whoever has gone away does not wait for an answer.
            _ = answer_one(&connection.unwrap(), &answer);
        }
    });
    address
}

/// Answers one request, and ends the connection.
fn answer_one(mut connection: &TcpStream, answer: impl Fn(&str, &str, &str) -> Response) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Response { status, content_type, body } = answer(method, path, query);
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all((head + &body).as_bytes())
}

/// A kubeconfig for this server, with the namespace `shop`. `more`: further fields of its cluster. `user`: the fields of its user.
pub fn kubeconfig(folder: &Path, server: &str, more: &str, user: &str) -> PathBuf {
    let path = folder.join("config");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u, namespace: shop}}}}], \
         clusters: [{{name: k, cluster: {{server: '{server}'{more}}}}}], users: [{{name: u, user: {{{user}}}}}]}}"
    );
    fs::write(&path, text).unwrap();
    path
}

/// The fields of a user who has a token.
pub const WITH_TOKEN: &str = "token: a-token";

/// The program, with nothing from the environment of whoever runs the tests.
pub fn program() -> Command {
    command_alone(env!("CARGO_BIN_EXE_kubectl-usercert"))
}
