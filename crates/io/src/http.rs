//! Asking a daemon on this host whether it answers. Nothing more is needed of HTTP here.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

/// How long each part of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a path, and says whether a daemon answered, whatever it said.
///
/// # Errors
/// Why not, in a few words.
pub fn answers_over_http(address: SocketAddr, path: &str) -> Result<u16, String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // In one piece: who answers to the beginning and hangs up would be a broken connection, not an answer.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        // `HTTP/1.1 200` and no more.
        stream.take(12).read_to_end(&mut head)?;
        Ok(head)
    };
    let head = ask().map_err(|error| error.to_string())?;
    let head = String::from_utf8_lossy(&head);
    let status =
        head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|code| code.parse().ok());
    status.ok_or_else(|| "what listens there does not speak HTTP".to_owned())
}

/// Whether something accepts connections there.
///
/// # Errors
/// Why not, in a few words.
pub fn listens(host: &str, port: u16, patience: Duration) -> Result<(), String> {
    let mut why = format!("{host} has no address");
    for address in (host, port).to_socket_addrs().map_err(|error| error.to_string())? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(_connected) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_answer_is_an_answer_and_silence_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "SSH-2.0-OpenSSH_9.9\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 512];
                let _ = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(answers_over_http(address, "/api/health"), Ok(503));
        assert!(answers_over_http(address, "/api/health").unwrap_err().contains("HTTP"));
        server.join().unwrap();
        assert!(answers_over_http(address, "/api/health").is_err(), "nobody listens any more");
    }

    #[test]
    fn somebody_listens_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listens("127.0.0.1", port, PATIENCE), Ok(()));
        drop(listener);
        assert!(listens("127.0.0.1", port, PATIENCE).is_err());
    }
}
