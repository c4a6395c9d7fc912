//! Asking a daemon or an app on this host. Plain HTTP, one request for each connection: nothing more is needed here.

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

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// `http://host:port/path`.
    pub url: &'a str,
    /// More lines of the head. Secrets may be here.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is sent, as JSON.
    pub body: Option<&'a str>,
}

/// Asks over plain HTTP; any status is an answer.
///
/// # Errors
/// Why there is none, in a few words without anything that was sent.
pub fn ask_over_http(request: &HttpRequest<'_>) -> Result<HttpAnswer, String> {
    let (host, path) = parts(request.url)?;
    let addresses = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut refused = format!("{host} is no address");
    let mut connected = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => refused = format!("{host}: {error}"),
        }
    }
    let mut stream = connected.ok_or(refused)?;
    // HTTP/1.0, so that the body ends where the connection does.
    let mut head = format!("{} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n", request.method);
    request.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    if let Some(body) = request.body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    let whole = format!("{head}\r\n{}", request.body.unwrap_or_default());
    let mut exchange = || -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(whole.as_bytes())?;
        let mut answer = Vec::new();
        Read::by_ref(&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| format!("{host}: {error}"))?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&answer[..end.unwrap_or(answer.len())]);
    let status =
        head.strip_prefix("HTTP/1.").and_then(|rest| rest.split([' ', '\r']).nth(1)).and_then(|code| code.parse().ok());
    match (status, end) {
        (Some(status), Some(end)) => Ok(HttpAnswer { status, body: answer[end + 4..].to_vec() }),
        _ => Err(format!("what listens at {host} does not speak HTTP")),
    }
}

/// Asks an address anywhere, over TLS too, and says with which status it answers, whatever that is.
///
/// # Errors
/// Why nobody answers, in a few words.
pub fn answers_over_the_web(url: &str) -> Result<u16, String> {
    // The first provider stays; it is the same everywhere here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = async {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok::<u16, reqwest::Error>(client.get(url).send().await?.status().as_u16())
    };
    let told = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    runtime.map_err(|error| error.to_string())?.block_on(asked).map_err(told)
}

/// Sends JSON over HTTP or HTTPS, and gives the status that was answered. The address is a secret, as chats have it in theirs.
///
/// # Errors
/// Why nobody answers, in a few words without the address.
pub fn post_over_the_web(url: &str, body: &str) -> Result<u16, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = async {
        // Where it is led elsewhere, the secret part of the address would go along.
        let client =
            reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
        let request = client.post(url).header("Content-Type", "application/json").body(body.to_owned());
        Ok::<u16, reqwest::Error>(request.send().await?.status().as_u16())
    };
    let told = |error: reqwest::Error| error.without_url().to_string();
    runtime.map_err(|error| error.to_string())?.block_on(asked).map_err(told)
}

/// Host with port, and path.
fn parts(url: &str) -> Result<(String, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url} does not begin with http://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    Ok((host, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// SYNC-28: an answer without a key is an answer.
    #[test]
    fn sync_28_two_hundred_four_hundred_one_and_nobody_are_three_things() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/rest/v1/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for status in ["200 OK", "401 Unauthorized"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(answers_over_the_web(&url), Ok(200));
        assert_eq!(answers_over_the_web(&url), Ok(401));
        server.join().unwrap();
        assert!(answers_over_the_web(&url).is_err(), "nobody listens any more");
    }

    #[test]
    fn what_is_asked_arrives_and_what_is_answered_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/things?limit=1", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            let read = stream.read(&mut asked).unwrap();
            stream.write_all(b"HTTP/1.0 201 Created\r\nX: y\r\n\r\n{\"id\":7}").unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let headers = [("Authorization", "Bearer x")];
        let request = HttpRequest { method: "POST", url: &url, headers: &headers, body: Some("{}") };
        let answer = ask_over_http(&request).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (201, b"{\"id\":7}".as_slice()));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("POST /api/things?limit=1 HTTP/1.0\r\n"), "{asked}");
        assert!(asked.contains("Authorization: Bearer x\r\n") && asked.ends_with("\r\n\r\n{}"), "{asked}");
        assert!(ask_over_http(&request).is_err(), "nobody listens any more");
        assert!(ask_over_http(&HttpRequest { url: "https://a/", ..request }).is_err());
    }

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
