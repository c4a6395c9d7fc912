//! Databases on PostgreSQL servers: their addresses, and where the passwords are.

use std::path::Path;

use lifeboat_io::Io;
use lifeboat_model::{Failure, FailureKind, ResourceKind};

use super::{ResourceSettings, resolve::source_of};
use crate::{
    outside::{self, OnServer},
    secrets::{self, Said, ServerPassword},
};

/// A database, and how to get in when that was said.
pub struct Server {
    /// What the engine knows of it: nothing secret.
    pub kind: ResourceKind,
    /// Its name on the server.
    pub database: String,
    /// The server it is on, as [`secrets::Passwords`] knows it.
    pub server: String,
    /// Its password.
    pub password: Option<ServerPassword>,
}

/// Understands an address; a password in it is taken out.
///
/// # Errors
/// It cannot be understood. The text is never repeated: there may be a password in it.
pub fn named(text: &str, schemas: &[String], io: &Io) -> Result<Server, Failure> {
    let OnServer { url, server, database, password } = outside::on_server(text, io)?;
    let password = password.map(|password| ServerPassword::Said(Said(password)));
    let kind = ResourceKind::Postgres { url, schemas: schemas.to_vec() };
    Ok(Server { kind, server, database, password })
}

/// The database that a settings file describes.
///
/// # Errors
/// The address is missing, cannot be understood, or is not where it should be.
pub fn of_settings(name: &str, what: &ResourceSettings, folder: &Path, io: &Io) -> Result<Server, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let mut server = match (&what.url, &what.url_from) {
        (Some(url), _) => named(url, &what.schemas, io)?,
        (None, Some(from)) => {
            use secrecy::ExposeSecret;
            let url = secrets::read(&source_of(from, folder)?, name, io)
                .map_err(|failure| failure.while_doing(format!("the address of {name} cannot be read")))?;
            named(url.expose_secret(), &what.schemas, io)?
        }
        (None, None) => {
            return Err(usage(format!("{name} has no address")).hint("write url = \"postgres://role@host/database\""));
        }
    };
    if let Some(password) = &what.password {
        server.password = Some(ServerPassword::From(source_of(password, folder)?));
    }
    Ok(server)
}
