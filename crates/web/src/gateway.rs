//! The gateway: every path that is not ours goes to the app behind it, so that both share a port. Bodies stream both ways,
//! WebSockets and other upgrades go through, and while the app is closed on purpose everybody is told so.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, uri},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use lifeboat_engine::{Engine, closed::Closed};
use lifeboat_model::{Failure, FailureKind};

use crate::{
    Daemon,
    answer::Problem,
    guard::{REQUEST_ID, dress},
    page,
    traffic::Traffic,
};

/// How long a connection to the app may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a connection that nobody uses is kept.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The way to the app.
pub struct Gateway {
    authority: uri::Authority,
    /// What the app has to begin to answer within.
    patience: Duration,
    client: Client<HttpConnector, Body>,
    /// What has been counted.
    pub traffic: Traffic,
    closed: Mutex<Option<Closed>>,
}

impl Gateway {
    /// The way to an app at `http://HOST:PORT`.
    ///
    /// # Errors
    /// When that is no such address.
    pub fn new(upstream: &str, patience: Duration) -> Result<Gateway, Failure> {
        let wrong = || {
            let failure = Failure::new(FailureKind::Usage, format!("{upstream:?} is no address of an app"));
            failure.hint("write upstream = \"http://127.0.0.1:3000\": http, a host and a port")
        };
        let uri: Uri = upstream.parse().map_err(|_error| wrong())?;
        let is_plain =
            uri.scheme() == Some(&uri::Scheme::HTTP) && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|_| is_plain).cloned().ok_or_else(wrong)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Gateway { authority, patience, client, traffic: Traffic::default(), closed: Mutex::default() })
    }

    /// Where the app is.
    pub fn upstream(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether the app is closed on purpose, as it was seen last.
    pub fn closed(&self) -> Option<Closed> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether it is. What cannot be told keeps nobody out: the app itself knows whether it works.
    pub fn look(&self, engine: &Engine) {
        let closed = engine.closed().unwrap_or_default();
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
    }

    /// Whether the app can be connected to.
    ///
    /// # Errors
    /// Why not.
    pub fn answers(&self) -> Result<(), String> {
        let port = self.authority.port_u16().unwrap_or(80);
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        lifeboat_io::listens(host, port, CONNECT_MAX)
    }
}

/// Hands a request to the app; without a gateway there is nothing.
pub async fn pass(
    State(daemon): State<Arc<Daemon>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let id = daemon.request_id();
    let refused = |problem: Problem| {
        let mut response = problem.into_response();
        dress(&mut response, &id);
        response
    };
    let Some(gateway) = daemon.gateway.as_ref() else {
        return refused(Problem::new(404, format!("there is nothing at {}", request.uri().path())));
    };
    if request.method() == Method::CONNECT {
        return refused(Problem::new(405, "this is the way to one app, and to no other place"));
    }
    let wants_page = wants_page(request.headers());
    let answer = match gateway.closed() {
        Some(closed) => Err(Trouble::Closed(closed)),
        None => forward(&daemon, gateway, peer, request, &id).await,
    };
    answer.unwrap_or_else(|trouble| {
        let mut response = trouble.answer(&daemon.engine.setup().scope.app, gateway, wants_page);
        dress(&mut response, &id);
        response
    })
}

/// Why the app does not answer.
enum Trouble {
    Closed(Closed),
    Down(String),
    Slow(Duration),
}

impl Trouble {
    fn answer(self, app: &str, gateway: &Gateway, wants_page: bool) -> Response {
        let eta = if let Trouble::Closed(closed) = &self { closed.eta() } else { None };
        let (status, title, after_s, because) = match &self {
            Trouble::Closed(closed) => {
                let eta = eta.as_ref().map(|eta| format!("; it is expected back in {eta}")).unwrap_or_default();
                (503, format!("{app} is closed for maintenance{eta}"), closed.retry_after_s(), None)
            }
            Trouble::Down(why) => (502, "the app behind this does not answer".to_owned(), 5, Some(why.clone())),
            Trouble::Slow(patience) => {
                (504, format!("the app behind this did not answer within {} s", patience.as_secs()), 5, None)
            }
        };
        if wants_page {
            let page = page::page(app, eta.as_deref(), after_s);
            let mut response = (StatusCode::from_u16(status).unwrap_or_default(), page).into_response();
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s));
            let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            return response;
        }
        let problem = Problem::new(status, title).retry_after(after_s);
        let problem = match because {
            Some(why) => problem.because(format!("{}: {why}", gateway.upstream())),
            None => problem,
        };
        problem.into_response()
    }
}

/// Somebody with a browser reads a page; programs read JSON.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepts.contains("text/html")
}

async fn forward(
    daemon: &Arc<Daemon>,
    gateway: &Gateway,
    peer: SocketAddr,
    mut request: Request,
    id: &str,
) -> Result<Response, Trouble> {
    let clock = &daemon.engine.io().clock;
    let upgrade = upgrade_wanted(request.headers());
    let ours = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let request = for_the_app(request, gateway, peer, upgrade.as_ref(), id);
    let began = clock.elapsed();
    let answered = tokio::time::timeout(gateway.patience, gateway.client.request(request)).await;
    let now = clock.elapsed();
    let failed = !matches!(&answered, Ok(Ok(response)) if !response.status().is_server_error());
    if upgrade.is_none() || failed {
        gateway.traffic.take(now, now.saturating_sub(began), failed);
    }
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Trouble::Down(root_of(&error))),
        Err(_elapsed) => return Err(Trouble::Slow(gateway.patience)),
    };
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(ours) = ours.filter(|_| switches) {
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) {
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await; // either may hang up at any time
            }
        });
    }
    let answers = response.headers().get(header::UPGRADE).cloned().filter(|_| switches);
    let mut response = response.map(Body::new);
    drop_hop_by_hop(response.headers_mut());
    if let Some(protocol) = answers {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
    }
    Ok(response)
}

/// The protocol that a client wants to switch to.
fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let tokens = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks = tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// The request as the app gets it.
fn for_the_app(
    request: Request,
    gateway: &Gateway,
    peer: SocketAddr,
    upgrade: Option<&HeaderValue>,
    id: &str,
) -> Request {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
    let target = Uri::builder().scheme(uri::Scheme::HTTP).authority(gateway.authority.clone()).path_and_query(path);
    parts.uri = target.build().unwrap_or_default(); // made of three parts that are right
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    drop_hop_by_hop(headers);
    headers.remove(header::EXPECT); // we have said already that the body may come
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let from = HeaderName::from_static("x-forwarded-for");
    let before: Vec<&str> = headers.get_all(&from).iter().filter_map(|value| value.to_str().ok()).collect();
    let chain = before.into_iter().map(str::to_owned).chain([peer.ip().to_string()]).collect::<Vec<_>>().join(", ");
    let text = |text: &str| HeaderValue::from_str(text).ok();
    if let Some(chain) = text(&chain) {
        headers.insert(from, chain);
    }
    // Whoever stands in front of us on this host knows better what the client spoke; nobody else does.
    let (proto, host) = (HeaderName::from_static("x-forwarded-proto"), HeaderName::from_static("x-forwarded-host"));
    if !peer.ip().is_loopback() || !headers.contains_key(&proto) {
        headers.insert(proto, HeaderValue::from_static("http"));
    }
    if (!peer.ip().is_loopback() || !headers.contains_key(&host))
        && let Some(said) = headers.get(header::HOST).cloned()
    {
        headers.insert(host, said);
    }
    if let (Some(id), false) = (text(id), headers.contains_key(REQUEST_ID)) {
        headers.insert(REQUEST_ID, id);
    }
    Request::from_parts(parts, body)
}

/// Takes out what concerns one connection only, also what the connection itself names.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What lies at the bottom of an error.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(cause) = at.source() {
        at = cause;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Gateway {
        Gateway::new("http://127.0.0.1:3000", Duration::from_secs(1)).unwrap()
    }

    fn forwarded(peer: &str, headers: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::builder().uri("/a/b?c=d").header("host", "shop.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = format!("{peer}:4000").parse().unwrap();
        let request = for_the_app(request.body(Body::empty()).unwrap(), &gateway(), peer, None, "id-1");
        assert_eq!(request.uri().to_string(), "http://127.0.0.1:3000/a/b?c=d");
        request.headers().clone()
    }

    #[test]
    fn what_concerns_one_connection_stays_there_and_the_app_learns_who_asked() {
        let headers = [("connection", "close, X-Mine"), ("x-mine", "1"), ("te", "trailers"), ("cookie", "a=b")];
        let got = forwarded("10.0.0.9", &headers);
        for name in ["connection", "x-mine", "te"] {
            assert!(!got.contains_key(name), "{name}");
        }
        assert_eq!((&got["host"], &got["cookie"]), (&"shop.example".parse().unwrap(), &"a=b".parse().unwrap()));
        assert_eq!(got["x-forwarded-for"], "10.0.0.9");
        assert_eq!((got["x-forwarded-proto"].as_bytes(), got["x-request-id"].as_bytes()), (&b"http"[..], &b"id-1"[..]));
        let said =
            [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")];
        let got = forwarded("10.0.0.9", &said);
        assert_eq!(got["x-forwarded-for"], "1.2.3.4, 10.0.0.9", "the last one is the one we saw");
        assert_eq!(got["x-forwarded-proto"], "http", "not believed");
        assert_eq!(got["x-forwarded-host"], "shop.example");
        assert_eq!(forwarded("127.0.0.1", &said)["x-forwarded-proto"], "https", "who is in front of us is");
    }

    #[test]
    fn an_upstream_is_a_plain_address() {
        for bad in ["https://127.0.0.1:3000", "127.0.0.1:3000", "http://127.0.0.1:3000/app", "http://", "x"] {
            assert!(Gateway::new(bad, Duration::ZERO).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_both_headers_ask_for_an_upgrade() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
        };
        let both = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade_wanted(&both).unwrap(), "websocket");
        assert_eq!(upgrade_wanted(&headers(&[("upgrade", "h2c")])), None);
    }
}
