//! `lifeboat init`: looks around and writes a settings file with what it found, and with what it found and cannot protect
//! yet. Never over one that is there.

mod compose;
mod look;
mod servers;

use std::{io::Write, path::Path};

use lifeboat_io::{Io, files};
use lifeboat_model::{ExitCode, Failure, FailureKind, ResourceKind, ResourceName};
use serde_json::json;

use super::config::write;
use crate::{
    cli::{GlobalArgs, InitArgs},
    settings::{self, FILE_NAME, names::made_fit},
};

pub use compose::compose;
pub use look::{Found, FoundResource, Writer, look};

/// The environment that is written when none is said: what is found on a developer's machine is not production.
const ENVIRONMENT: &str = "local";

/// Writes `lifeboat.toml` (or what `--config` names), or only shows it.
///
/// # Errors
/// There is a settings file already, nothing can be read or written here, or what was named is no `sqlite:PATH` and its like.
pub fn run(global: &GlobalArgs, args: &InitArgs, io: &Io, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let path = settings::absolute(global.config.as_deref().unwrap_or(Path::new(FILE_NAME)))?;
    if !args.dry_run && files::exists(&path) {
        let message = format!("{} is there already and stays as it is", path.display());
        return Err(Failure::new(FailureKind::Refused, message)
            .hint("lifeboat config check; or lifeboat init --dry-run to see another"));
    }
    let folder = files::parent(&path);
    let environment = global.environment.as_deref().unwrap_or(ENVIRONMENT);
    ResourceName::new(environment).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let mut found = look(folder, environment, io)?;
    if let Some(app) = &args.app {
        ResourceName::new(app.as_str()).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        found.app.clone_from(app);
    }
    if !args.resources.is_empty() {
        found.resources = named(&args.resources, folder, io)?;
    }
    let vault = vault_text(global, folder)?;
    let text = compose(&found, environment, &vault);
    if let Err(problems) = settings::check(&text, folder)
        && found.resources.iter().any(|resource| resource.certain)
    {
        let failure = settings::problem::failure(&path, &problems);
        return Err(failure.while_doing("what was found here cannot be written as settings"));
    }
    if !args.dry_run {
        let written = files::write_stream(&path, 0o644, |to| to.write_all(text.as_bytes()));
        let written =
            written.and_then(|written| written.map_err(|source| lifeboat_io::PathError { path: path.clone(), source }));
        written.map_err(|error| {
            Failure::from_error(FailureKind::Refused, &error).while_doing("cannot write the settings")
        })?;
    }
    tell(global, args, &path, &found, &text, out)?;
    Ok(ExitCode::Ok)
}

/// What was named by the command's words, instead of what lies around.
fn named(words: &[String], folder: &Path, io: &Io) -> Result<Vec<FoundResource>, Failure> {
    let global =
        GlobalArgs { vault: Some("./vault".to_owned()), state: Some(folder.to_owned()), ..GlobalArgs::default() };
    let resolved = settings::resolve(&global, words, io)?;
    let found = resolved.setup.resources.iter().map(|resource| {
        let place = std::path::PathBuf::from(resource.kind.place());
        let path = resource.kind.path().unwrap_or(&place);
        FoundResource {
            name: resource.name.to_string(),
            kind: resource.kind.word(),
            path: path.strip_prefix(folder).map_or_else(|_| path.to_owned(), |inside| Path::new(".").join(inside)),
            variable: None,
            about: String::new(),
            certain: true,
        }
    });
    let missing = resolved.setup.resources.iter().find(|resource| match &resource.kind {
        ResourceKind::Sqlite { path } | ResourceKind::Files { path, .. } | ResourceKind::Env { path } => {
            !files::exists(path)
        }
        ResourceKind::Postgres { .. } => false,
    });
    if let Some(resource) = missing {
        let message = format!("there is nothing at {}", resource.kind.place());
        return Err(Failure::new(FailureKind::Usage, message).hint("check the path"));
    }
    Ok(found.collect())
}

/// The vault as it is written: as somebody said it, or a folder beside the file.
fn vault_text(global: &GlobalArgs, folder: &Path) -> Result<String, Failure> {
    let Some(said) = &global.vault else { return Ok("./vault".to_owned()) };
    let here = settings::absolute(Path::new("."))?;
    let place = crate::outside::place(said, &here)?;
    Ok(if here == folder { said.clone() } else { place.location })
}

fn tell(
    global: &GlobalArgs,
    args: &InitArgs,
    path: &Path,
    found: &Found,
    text: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if global.json.is_some() {
        let document = json!({
            "schema": "lifeboat/init@1", "file": path, "written": !args.dry_run, "app": found.app, "resources": found.resources,
            "not_yet": found.not_yet, "text": text,
        });
        return write(out, &format!("{document}\n"));
    }
    if args.dry_run {
        return write(out, text);
    }
    let mut told = format!("Wrote {}.\n", path.display());
    for resource in &found.resources {
        let mark = if resource.certain { "protects" } else { "left out" };
        told += &format!("  {mark}  {} ({}) {}\n", resource.name, resource.kind, resource.place());
    }
    for what in &found.not_yet {
        told += &format!("  not yet   {what}\n");
    }
    if !found.resources.iter().any(|resource| resource.certain) {
        told += "Nothing was found that can be protected; write its path into the file.\n";
    }
    told += "Next: read the file, set LIFEBOAT_VAULT_PASSWORD, then run lifeboat doctor.\n";
    write(out, &told)
}

/// A name that is not taken yet.
pub(crate) fn free_name(wish: &str, when_nothing_is_left: &str, taken: &[FoundResource]) -> String {
    let wish = made_fit(wish, when_nothing_is_left);
    let is_taken = |name: &str| taken.iter().any(|resource| resource.name == name);
    let numbered = (2..).map(|number| format!("{}-{number}", wish.chars().take(58).collect::<String>()));
    std::iter::once(wish.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(wish)
}
