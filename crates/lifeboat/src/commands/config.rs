//! `lifeboat config`: is the settings file right, what is in effect and why, what may be written.

use std::{io::Write, path::Path};

use lifeboat_io::{Io, files};
use lifeboat_model::{ExitCode, Failure, FailureKind};
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{ConfigArgs, ConfigCommand, GlobalArgs},
    settings::{self, Loaded, Origin, Resolved, Settings, Shown},
};

/// Runs `config check`, `show` or `schema`.
///
/// # Errors
/// The settings are wrong or not there, or the answer cannot be written.
pub fn run(global: &GlobalArgs, args: &ConfigArgs, io: &Io, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    match args.command {
        ConfigCommand::Check => check(global, io, out),
        ConfigCommand::Show => show(global, io, out),
        ConfigCommand::Schema => schema(out),
    }
}

fn check(global: &GlobalArgs, io: &Io, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let path = settings::find(global, io)?.ok_or_else(no_file)?;
    if global.json.is_none() {
        let loaded = settings::read(&path)?;
        let (problems, unseen) = settings::whole::check(&loaded, global, io);
        if !problems.is_empty() {
            return Err(settings::problem::failure(&path, &problems));
        }
        let unseen: String = unseen.iter().map(|what| format!("Not looked at here: {what}.\n")).collect();
        write(out, &format!("{} is right: {}.\n{unseen}", path.display(), summary(&loaded.settings)))?;
        return Ok(ExitCode::Ok);
    }
    let text = files::read_text(&path).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let (problems, unseen) = match settings::check(&text, files::parent(&path)) {
        Ok((document, settings)) => {
            settings::whole::check(&Loaded { path: path.clone(), document, settings }, global, io)
        }
        Err(problems) => (problems, Vec::new()),
    };
    let document = json!({
        "schema": "lifeboat/config-check@1", "file": path, "good": problems.is_empty(), "problems": problems, "unseen": unseen,
    });
    write(out, &format!("{document}\n"))?;
    Ok(if problems.is_empty() { ExitCode::Ok } else { ExitCode::Usage })
}

fn summary(settings: &Settings) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let environments = settings.environments.len();
    let resources = settings.environments.values().map(|environment| environment.resources.len()).sum();
    format!("{}, {}, {}", settings.app.name, plural(environments, "environment"), plural(resources, "resource"))
}

fn show(global: &GlobalArgs, io: &Io, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let resolved = everything(global, io)?;
    if global.json.is_some() {
        #[derive(Serialize)]
        struct Environment<'a> {
            scope: String,
            values: &'a [Shown],
            warnings: &'a [String],
        }
        let environments: Vec<Environment<'_>> = resolved
            .iter()
            .map(|one| Environment {
                scope: one.setup.scope.to_string(),
                values: &one.origins,
                warnings: &one.warnings,
            })
            .collect();
        let file = resolved.first().and_then(|one| one.file.as_deref());
        let document = json!({ "schema": "lifeboat/config@1", "file": file, "environments": environments });
        write(out, &format!("{document}\n"))?;
        return Ok(ExitCode::Ok);
    }
    for one in &resolved {
        write(out, &table(one))?;
    }
    Ok(ExitCode::Ok)
}

/// The environment that is meant, or all of the file when none is.
pub(crate) fn everything(global: &GlobalArgs, io: &Io) -> Result<Vec<Resolved>, Failure> {
    if global.environment.is_some() || !global.about.is_empty() {
        return Ok(vec![settings::resolve(global, &[], io)?]);
    }
    let Some(path) = settings::find(global, io)? else { return Ok(vec![settings::resolve(global, &[], io)?]) };
    let loaded: Loaded = settings::read(&path)?;
    let names = loaded.settings.environments.keys();
    names.map(|name| settings::resolve::environment_of(&loaded, name, global, io)).collect()
}

fn table(resolved: &Resolved) -> String {
    let mut text = format!("{}\n", resolved.setup.scope);
    let keys = resolved.origins.iter().map(|shown| shown.key.chars().count()).max().unwrap_or(0);
    let values = resolved.origins.iter().map(|shown| shown.value.chars().count()).max().unwrap_or(0).min(60);
    for Shown { key, value, origin } in &resolved.origins {
        text += &format!("  {key:keys$}  {value:values$}  {}\n", place(origin, resolved.file.as_deref()));
    }
    for warning in &resolved.warnings {
        text += &format!("  Warning: {warning}\n");
    }
    text + "\n"
}

fn place(origin: &Origin, file: Option<&Path>) -> String {
    match (origin, file.and_then(Path::file_name)) {
        (Origin::Line(line), Some(file)) => format!("{}:{line}", file.to_string_lossy()),
        (Origin::Line(_) | Origin::Flag(_) | Origin::Variable(_) | Origin::Default, _) => origin.to_string(),
    }
}

fn schema(out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let text = serde_json::to_string_pretty(&settings::schema())
        .map_err(|error| Failure::new(FailureKind::Bug, error.to_string()))?;
    write(out, &format!("{text}\n"))?;
    Ok(ExitCode::Ok)
}

fn no_file() -> Failure {
    Failure::new(FailureKind::Usage, "there is no lifeboat.toml in this folder or above it")
        .hint("lifeboat init writes one")
}

/// Writes an answer. A reader who has gone away (`| head`) is no error.
pub(crate) fn write(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::from_error(FailureKind::Outside, &error).while_doing("the answer cannot be written"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
