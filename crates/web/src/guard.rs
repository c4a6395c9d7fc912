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

use crate::{Daemon, answer::Problem};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For the journal.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they have shown a token.
    pub has_token: bool,
}

impl Caller {
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

/// Looks at every request before it goes on.
pub async fn guard(
    State(daemon): State<Arc<Daemon>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = format!("{:016x}", daemon.engine.io().random.bits());
    let mut response = match caller(&daemon, peer, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&id).ok().map(|id| (header::HeaderName::from_static("x-request-id"), id)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn caller(daemon: &Daemon, peer: SocketAddr, request: &Request) -> Result<Caller, Problem> {
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    let headers = request.headers();
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
    Ok(Caller { name: format!("api@{}", peer.ip()), role, has_token: false })
}

fn by_token(daemon: &Daemon, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let Some(said) = text(headers, header::AUTHORIZATION) else { return Ok(None) };
    let token = said.strip_prefix("Bearer ").or_else(|| said.strip_prefix("bearer ")).map(str::trim);
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Err(Problem::new(401, "the Authorization of this request is no Bearer token"));
    };
    let known = daemon.tokens.whose(token).map_err(|_| Problem::new(500, "the list of tokens cannot be read"))?;
    match known {
        Some(known) => {
            Ok(Some(Caller { name: format!("{} (api@{})", known.name, peer.ip()), role: known.role, has_token: true }))
        }
        None => Err(Problem::new(403, "this token is not known").hint("lifeboat token list")),
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
