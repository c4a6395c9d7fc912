//! Resources that are named by their path or address, with no settings file: `sqlite:PATH`, `postgres:ADDRESS`.

use std::path::Path;

use lifeboat_io::Io;
use lifeboat_model::{Failure, Resource, ResourceKind, ResourceName};

use super::{KindSettings, absolute, names::made_fit, resolve::usage, servers};
use crate::outside;

/// Reads `sqlite:PATH` and its like; nothing when it is a name.
pub(super) fn by_path(word: &str, io: &Io) -> Result<Option<Resource>, Failure> {
    if let Some(address) = address_in(word) {
        let server = servers::named(address, &[], io)?;
        let name = ResourceName::new(made_fit(&server.database, "data")).map_err(|error| usage(error.to_string()))?;
        return Ok(Some(plain(name, server.kind)));
    }
    let Some((kind, path)) = kind_and_path(word) else { return Ok(None) };
    if path.is_empty() {
        return Err(usage(format!("{word} names no path")).hint(format!("{word}./shop.db, for example")));
    }
    let path = outside::plain_path(&absolute(Path::new(path))?);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (kind, stem) = match kind {
        KindSettings::Sqlite => {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            (ResourceKind::Sqlite { path }, stem)
        }
        KindSettings::Files => (ResourceKind::Files { path, exclude: Vec::new() }, name),
        KindSettings::Env => (ResourceKind::Env { path }, name),
        KindSettings::Postgres => return Ok(None), // an address, above
    };
    let name = ResourceName::new(made_fit(&stem, "data")).map_err(|error| usage(error.to_string()))?;
    Ok(Some(plain(name, kind)))
}

/// A resource that nobody has said more about.
pub(super) fn plain(name: ResourceName, kind: ResourceKind) -> Resource {
    Resource::plain(name, kind)
}

/// The address in `postgres:ADDRESS`, `postgres://...` or `postgresql://...`.
pub(super) fn address_in(word: &str) -> Option<&str> {
    if word.starts_with("postgres://") || word.starts_with("postgresql://") {
        return Some(word);
    }
    word.strip_prefix("postgres:")
}

pub(super) fn kind_and_path(word: &str) -> Option<(KindSettings, &str)> {
    let (kind, path) = word.split_once(':')?;
    let kind = match kind {
        "sqlite" => KindSettings::Sqlite,
        "files" => KindSettings::Files,
        "env" => KindSettings::Env,
        _ => return None, // an address is no path
    };
    Some((kind, path.strip_prefix("//").unwrap_or(path)))
}
