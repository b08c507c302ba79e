//! The admin API of the simulator: plain HTTP on loopback.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request to the admin API failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the simulator's admin API cannot be asked")]
    Io(#[from] io::Error),
    #[error("the simulator's admin API answered {0:?}")]
    Refused(String),
}

/// Sends one request to a server on loopback. No other program is started for that: every user can
/// read the arguments of a program, and the body holds a key.
pub fn call(server: SocketAddr, request: &str, body: &str) -> Result<String, AdminError> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    answer_in(BufReader::new(stream))
}

/// The body of a successful answer. Its length says where it ends: a port forwarding may keep the
/// connection open long after that.
fn answer_in(mut reader: impl BufRead) -> Result<String, AdminError> {
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim_end().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    match status.starts_with("HTTP/1.1 20") && body.len() as u64 == length {
        true => Ok(body),
        false => Err(AdminError::Refused(status.trim_end().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_that_is_ok_has_a_body() {
        let body = |answer: &str| answer_in(answer.as_bytes()).ok();
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more").as_deref(), Some("{}"));
        assert_eq!(body("HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n").as_deref(), Some(""));
        assert_eq!(body("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"), None);
        assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}"), None);
        assert_eq!(body(""), None);
    }
}
