//! Who may do what. Looking is free for callers on this host. Switching and triggering, too, when the settings leave it
//! so: the document's `curl` works as it is written; but only with a local `Host` and without a foreign `Origin`, so that
//! no page in somebody's browser can do it. What takes something away needs an admin's token, always.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use lifeboat_store::Role;

use crate::{Daemon, answer::Problem, limits::Asks};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For the journal: who, from where, by which request.
    pub name: String,
    /// The same for many requests.
    pub name_without_request: String,
    /// What they may do.
    pub role: Role,
    /// Whether they have shown a token.
    pub has_token: bool,
}

impl Caller {
    fn new(name: String, role: Role, has_token: bool) -> Caller {
        Caller { name: name.clone(), name_without_request: name, role, has_token }
    }

    /// Fails for a caller who has shown no token, whoever they are.
    pub fn must_have_token(&self) -> Result<(), Problem> {
        if self.has_token {
            return Ok(());
        }
        Err(Problem::new(401, "this replaces what is live, and needs a token")
            .hint("-H \"Authorization: Bearer TOKEN\"; lifeboat token add NAME --role operator makes one"))
    }

    /// Fails unless the caller has shown a token of an admin.
    pub fn must_be_admin(&self) -> Result<(), Problem> {
        match (self.has_token, self.role) {
            (false, _) => Err(Problem::new(401, "this needs the token of an admin")
                .hint("-H \"Authorization: Bearer TOKEN\"; lifeboat token add NAME --role admin makes one")),
            (true, Role::Admin) => Ok(()),
            (true, _) => Err(Problem::new(403, "this token is not an admin's")),
        }
    }
}

/// Where an answer says which request it answers.
pub const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// Looks at every request before it goes on, and writes down what it came to when it was to change something, or was refused.
pub async fn guard(
    State(daemon): State<Arc<Daemon>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let (id, began) = (daemon.request_id(), daemon.engine.io().clock.elapsed());
    let asked = format!("{} {}", request.method(), request.uri().path());
    let changes = changes(&request);
    let known = caller(&daemon, peer, &request, &id).and_then(|caller| {
        let asks = match (changes, caller.has_token) {
            (true, _) => Asks::Change,
            (false, true) => Asks::Look,
            (false, false) => Asks::LookHere,
        };
        not_too_often(&daemon, &caller.name_without_request, asks)?;
        Ok(caller)
    });
    let (who, mut response) = match known {
        Ok(caller) => {
            let who = caller.name_without_request.clone();
            request.extensions_mut().insert(caller);
            (who, as_problem(next.run(request).await).await)
        }
        Err(problem) => (format!("api@{}", peer.ip()), problem.into_response()),
    };
    let status = response.status();
    if changes || matches!(status.as_u16(), 401 | 403 | 429 | 500) {
        let took = daemon.engine.io().clock.elapsed().saturating_sub(began).as_millis();
        daemon.log.say(&format!("{asked} {} by {who} in {took} ms, request {id}", status.as_u16()));
    }
    dress(&mut response, &id);
    response
}

/// Bytes of a refusal in plain words that are repeated.
const WORDS_MAX: usize = 4 << 10;

/// What is refused before anybody of ours sees it (a body that is too large, a number that is none) comes in plain words;
/// programs get a problem all the same.
async fn as_problem(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || !kind.starts_with("text/plain") {
        return response;
    }
    let words = axum::body::to_bytes(response.into_body(), WORDS_MAX).await.unwrap_or_default();
    let title = status.canonical_reason().unwrap_or("it is refused").to_lowercase();
    Problem::new(status.as_u16(), title).because(String::from_utf8_lossy(&words)).into_response()
}

/// What every answer of ours carries.
pub fn dress(response: &mut Response, id: &str) {
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(id).ok().map(|id| (REQUEST_ID, id)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn changes(request: &Request) -> bool {
    request.method() != Method::GET && request.method() != Method::HEAD
}

fn not_too_often(daemon: &Daemon, who: &str, asks: Asks) -> Result<(), Problem> {
    daemon.limits.take(who, asks, daemon.engine.io().clock.elapsed()).map_err(Problem::too_often)
}

fn caller(daemon: &Daemon, peer: SocketAddr, request: &Request, id: &str) -> Result<Caller, Problem> {
    let changes = changes(request);
    let headers = request.headers();
    let caller = who_asks(daemon, peer, changes, headers)?;
    Ok(Caller { name: format!("{}, request {id}", caller.name_without_request), ..caller })
}

fn who_asks(daemon: &Daemon, peer: SocketAddr, changes: bool, headers: &HeaderMap) -> Result<Caller, Problem> {
    if let Some(caller) = by_token(daemon, peer, headers)? {
        return match changes && caller.role < Role::Operator {
            true => Err(Problem::new(403, "this token may only look")),
            false => Ok(caller),
        };
    }
    let needs_token = || {
        Problem::new(401, "this needs a token")
            .hint("-H \"Authorization: Bearer TOKEN\"; lifeboat token add NAME --role operator makes one")
    };
    if !peer.ip().is_loopback() {
        return Err(needs_token());
    }
    // A name that an attacker's DNS points to this host is no name of ours.
    if !text(headers, header::HOST).is_none_or(is_local_host) {
        return Err(Problem::new(403, "the Host of this request is not this host"));
    }
    if let Some(origin) = text(headers, header::ORIGIN)
        && !is_local_origin(origin)
    {
        return Err(Problem::new(403, "this request comes from a page of another site"));
    }
    if changes && !daemon.trusts_loopback {
        return Err(needs_token());
    }
    let role = if changes { Role::Operator } else { Role::Viewer };
    Ok(Caller::new(format!("api@{}", peer.ip()), role, false))
}

fn by_token(daemon: &Daemon, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let Some(said) = text(headers, header::AUTHORIZATION) else { return Ok(None) };
    let token = said.strip_prefix("Bearer ").or_else(|| said.strip_prefix("bearer ")).map(str::trim);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Err(Problem::new(401, "the Authorization of this request is no Bearer token"));
    };
    let known = daemon.tokens.whose(token).map_err(|_| Problem::new(500, "the list of tokens cannot be read"))?;
    match known {
        Some(known) => Ok(Some(Caller::new(format!("{} (api@{})", known.name, peer.ip()), known.role, true))),
        None => {
            not_too_often(daemon, &peer.ip().to_string(), Asks::Guess)?;
            Err(Problem::new(403, "this token is not known").hint("lifeboat token list"))
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("not text"))
}

fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_local_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| is_local_host(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_local() {
        for host in ["localhost", "localhost:3002", "127.0.0.1:3002", "[::1]:3002", "LOCALHOST"] {
            assert!(is_local_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:3002", "10.0.0.1", "", "not text"] {
            assert!(!is_local_host(host), "{host}");
        }
        assert!(
            is_local_origin("http://localhost:3000") && !is_local_origin("https://evil") && !is_local_origin("null")
        );
    }
}
