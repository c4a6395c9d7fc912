//! What is to be said about places: resources, the vault, the state folder, and the room they have.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_engine::{Copy, Vaults};
use lifeboat_io::{Io, Stop, files};
use lifeboat_model::{
    Elsewhere, Failure, FailureClass, FailureKind, Resource, ResourceKind, ResourceName, Tri, time::show_bytes,
};

use super::Finding;
use crate::{
    outside,
    secrets::{self, PasswordSource},
    settings::Resolved,
    wire,
};

/// Whether a resource is there, can be read and is what it should be, and who has it open.
pub fn resource(resource: &Resource, resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let name = resource.name.as_str();
    let Some(path) = resource.kind.path() else { return vec![server(resource, resolved, io)] };
    if !files::exists(path) {
        let finding = Finding::new(name, Tri::Fail, format!("there is nothing at {}", path.display()));
        let finding = finding.lost(format!("no backup of {name} can be made; one that exists can be restored to here"));
        return vec![finding.next(format!("change path of {name}, or start the app once so that it makes the file"))];
    }
    let cannot = |failure: &Failure| Finding::failure(name, failure).lost(format!("no backup of {name} can be made"));
    match &resource.kind {
        ResourceKind::Sqlite { path } => match wire::look_at_database(path) {
            Ok(found) => {
                vec![Finding::new(name, Tri::Pass, format!("{} is {found}", path.display())), open_by(resource, path)]
            }
            Err(failure) => vec![cannot(&failure)],
        },
        ResourceKind::Files { path, exclude } => {
            let mut findings = vec![match readable(path) {
                Ok(found) => Finding::new(name, Tri::Pass, format!("{} is {found}", path.display())),
                Err(failure) => cannot(&failure),
            }];
            findings.extend(databases_inside(resource, path, exclude, resolved));
            findings
        }
        ResourceKind::Env { path } => vec![match readable(path) {
            Ok(_) if path.is_dir() => {
                let finding = Finding::new(name, Tri::Fail, format!("{} is a folder", path.display()));
                finding.next("write kind = \"files\", or the path of the file")
            }
            Ok(found) => Finding::new(name, Tri::Pass, format!("{} is {found}", path.display())),
            Err(failure) => cannot(&failure),
        }],
        ResourceKind::Postgres { .. } => vec![server(resource, resolved, io)],
    }
}

/// Whether a database on a server can be captured.
fn server(resource: &Resource, resolved: &Resolved, io: &Io) -> Finding {
    let name = resource.name.as_str();
    let ResourceKind::Postgres { url, .. } = &resource.kind else {
        return Finding::new(name, Tri::Unknown, "it is on no server");
    };
    match wire::look_at_server(url, resolved, io) {
        Ok(found) => Finding::new(name, Tri::Pass, found),
        Err(failure) if failure.class == Some(FailureClass::Connection) => {
            let lost =
                "it is unreachable, which says nothing about its data; nothing can be backed up or restored there";
            Finding::failure(name, &failure).lost(lost)
        }
        Err(failure) => Finding::failure(name, &failure).lost(format!("no backup of {name} can be made")),
    }
}

/// Whether databases answer what targets ask of them, as they have to.
pub fn questions(resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let has_some = resolved.setup.targets.iter().any(|target| !target.questions.is_empty());
    let engine = match has_some.then(|| wire::engine(resolved, io)) {
        None => return Vec::new(),
        Some(Err(failure)) => return vec![Finding::failure("sql_probes", &failure)],
        Some(Ok(engine)) => engine,
    };
    let told = |(target, question, answer): (String, String, Result<(), String>)| match answer {
        Ok(()) => Finding::new(format!("{target} probe"), Tri::Pass, format!("{question} is answered as it has to be")),
        Err(why) => Finding::new(format!("{target} probe"), Tri::Fail, why)
            .lost(format!("no deploy, rollback or release of {target} counts as good"))
            .next("look into the database, or correct sql_probes of the target in lifeboat.toml"),
    };
    engine.ask_questions(&Stop::default()).into_iter().map(told).collect()
}

fn readable(path: &Path) -> Result<String, Failure> {
    let failure = |error: &lifeboat_io::PathError| Failure::from_error(FailureKind::Refused, error);
    files::can_read(path).map_err(|error| failure(&error))?;
    if path.is_dir() {
        let entries = files::list_folder(path).map_err(|error| failure(&error))?;
        let word = if entries.len() == 1 { "entry" } else { "entries" };
        return Ok(format!("a folder with {} {word}", entries.len()));
    }
    let size = files::size(path).map_err(|error| failure(&error))?;
    Ok(format!("a file of {}", show_bytes(size)))
}

fn open_by(resource: &Resource, path: &Path) -> Finding {
    let name = format!("{} in use", resource.name);
    match wire::open_by(path) {
        Err(failure) => Finding { outcome: Tri::Unknown, ..Finding::failure(name, &failure) },
        Ok(open) if open.found.is_empty() => {
            let others = match open.unseen {
                0 => String::new(),
                many => format!(" among the processes that this user may look at ({many} belong to others)"),
            };
            Finding::new(name, Tri::Pass, format!("nobody has it open{others}"))
        }
        Ok(open) => {
            let finding = Finding::new(name, Tri::Pass, format!("{} has it open", open.found));
            match &resource.writer {
                Some(_) => finding,
                None => finding
                    .lost("backups are fine; a restore over it is refused until that program is stopped")
                    .next(format!("stop it by hand when you restore, or set stop and start of {}", resource.name)),
            }
        }
    }
}

/// A database that is copied as a file while it is in use may be torn.
fn databases_inside(resource: &Resource, folder: &Path, exclude: &[String], resolved: &Resolved) -> Vec<Finding> {
    let inside = |other: &&Resource| matches!(&other.kind, ResourceKind::Sqlite { path } if path.starts_with(folder));
    let found = resolved.setup.resources.iter().filter(inside).filter(|_| exclude.is_empty());
    let finding = |other: &Resource| {
        let detail = format!(
            "the database {} lies inside {} and would be copied with it as a plain file",
            other.name, resource.name
        );
        let finding = Finding::new(resource.name.as_str(), Tri::Fail, detail);
        let file =
            other.kind.path().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy().into_owned();
        finding.lost("that second copy may be torn").next(format!("exclude = [\"{file}*\"] for {}", resource.name))
    };
    found.map(finding).collect()
}

/// Whether the vault can be reached and opened, who has a lock on it, and whether others can read its password.
pub fn vault(resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let location = &resolved.setup.vault;
    let mut findings: Vec<Finding> = resolved
        .warnings
        .iter()
        .map(|warning| {
            Finding::new("password", Tri::Fail, warning.clone()).lost("whoever has it can read every backup")
        })
        .collect();
    let vaults = wire::vaults(resolved, io);
    let cannot =
        |failure: &Failure| Finding::failure("vault", failure).lost("no backup can be made, and none be restored");
    findings.push(match vaults.exists(location) {
        Err(failure) => cannot(&failure),
        Ok(true) => match wire::vault_locks(&*vaults, location) {
            Err(failure) => cannot(&failure),
            Ok(locks) if locks.is_empty() => {
                Finding::new("vault", Tri::Pass, format!("{location} opens, and nobody has a lock on it"))
            }
            Ok(locks) => Finding::new("vault", Tri::Pass, format!("{location} opens; {}", locks.join("; "))),
        },
        Ok(false) => match secrets::read(resolved.passwords.source(location), location, io) {
            Err(failure) => cannot(&failure),
            Ok(_) => {
                let source = resolved.passwords.source(location);
                let finding = Finding::new(
                    "vault",
                    Tri::Pass,
                    format!("there is none at {location} yet, and there is a password, from {source}"),
                );
                finding.next("lifeboat backup; the first one makes the vault")
            }
        },
    });
    findings.extend(password_beside(resolved, &*vaults));
    findings.extend(same_disk(resolved, &*vaults));
    findings.extend(resolved.setup.copies.iter().flat_map(|copy| second(copy, resolved, &*vaults, io)));
    findings
}

/// Whether a second vault can be reached, how far it lags, and whether it would survive what takes the first one.
fn second(copy: &Copy, resolved: &Resolved, vaults: &dyn Vaults, io: &Io) -> Vec<Finding> {
    let name = format!("copy {}", copy.name);
    let lost = "when the vault is lost, so is what is only there";
    let next = format!("lifeboat vault copy --to {}", copy.name);
    let mut findings = match wire::engine(resolved, io).and_then(|engine| Ok(engine.copies(&engine.backups()?))) {
        Err(failure) => vec![Finding::failure(&name, &failure)],
        Ok(all) => all
            .into_iter()
            .filter(|status| status.name == copy.name.as_str())
            .map(|status| match status.why.first() {
                Some(why) => Finding::new(&name, status.good, why.clone()).lost(lost).next(&next),
                None if status.newest.is_none() => {
                    Finding::new(&name, Tri::Pass, format!("{} can be reached; nothing is in it yet", copy.location))
                }
                None => Finding::new(&name, Tri::Pass, format!("{} holds {} backups", copy.location, status.backups)),
            })
            .collect(),
    };
    let disk = |location: &str| vaults.folder(location).as_deref().and_then(device);
    if let Some(own) = disk(&copy.location) {
        let beside = resolved.setup.resources.iter().any(|resource| resource.kind.path().and_then(device) == Some(own));
        if beside || disk(&resolved.setup.vault) == Some(own) {
            let what = if beside { "what it keeps" } else { "the vault" };
            let detail = format!("it is on the same file system as {what}");
            let finding = Finding::new(format!("{name}'s disk"), Tri::Fail, detail);
            findings.push(finding.lost("a broken disk takes both").next("put it on another host, or into a bucket"));
        }
    }
    findings
}

/// A password inside the vault it opens protects nothing, and is lost with it.
fn password_beside(resolved: &Resolved, vaults: &dyn Vaults) -> Option<Finding> {
    let folder = vaults.folder(&resolved.setup.vault)?;
    match resolved.passwords.source(&resolved.setup.vault) {
        PasswordSource::File(path) | PasswordSource::VariableIn { file: path, .. } if path.starts_with(&folder) => {
            let finding =
                Finding::new("password", Tri::Fail, format!("{} lies inside the vault it opens", path.display()));
            Some(finding.lost("whoever takes the vault has its key").next("put the password's file somewhere else"))
        }
        PasswordSource::File(_)
        | PasswordSource::Variable(_)
        | PasswordSource::VariableIn { .. }
        | PasswordSource::Command(_)
        | PasswordSource::Nowhere => None,
    }
}

fn same_disk(resolved: &Resolved, vaults: &dyn Vaults) -> Option<Finding> {
    let vault = device(&vaults.folder(&resolved.setup.vault)?)?;
    let beside = resolved.setup.resources.iter().any(|resource| resource.kind.path().and_then(device) == Some(vault));
    let finding = Finding::new("vault's disk", Tri::Pass, "the vault is on the same file system as what it keeps");
    beside.then(|| {
        finding
            .lost("a broken disk takes both")
            .next("copy the vault to another disk, or use a bucket: s3://bucket/folder")
    })
}

/// Whether the places answer to which plain files go. Nothing is written there.
pub fn elsewhere(resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let vaults = wire::vaults(resolved, io);
    let look = |to: &Elsewhere| {
        let listed = vaults.objects(&to.place)?.list(&to.name);
        listed.map(drop).map_err(|error| Failure::from_error(FailureKind::Outside, &error))
    };
    let finding = |(name, to): (&ResourceName, &Elsewhere)| {
        let about = format!("{name} elsewhere");
        match look(to) {
            Ok(()) => Finding::new(about, Tri::Pass, format!("plain files go to {to}, and {} answers", to.place)),
            Err(failure) => {
                let finding = Finding::failure(about, &failure).lost(format!("no plain file of {name} goes elsewhere"));
                finding
                    .next(format!("set send_to of {name} right, or give the keys of its bucket as those of a vault's"))
            }
        }
    };
    resolved.setup.elsewhere.iter().map(finding).collect()
}

/// Whether the state folder can be written.
pub fn state(resolved: &Resolved, _io: &Io) -> Vec<Finding> {
    vec![match wire::try_state(&resolved.state) {
        Ok(()) => Finding::new("state", Tri::Pass, format!("{} can be written", resolved.state.display())),
        Err(failure) => {
            let finding =
                Finding::failure("state", &failure).lost("nothing can be done: each operation is journaled first");
            finding.next("--state FOLDER, LIFEBOAT_STATE, or folder under [state] in lifeboat.toml")
        }
    }]
}

/// Whether an operation was interrupted, or a journal damaged.
pub fn operations(resolved: &Resolved, io: &Io) -> Finding {
    let found = wire::engine(resolved, io).and_then(|engine| {
        let catalog = engine.catalog()?;
        let outside = |error: &dyn std::error::Error| Failure::new(FailureKind::Unknown, error.to_string());
        let unfinished = catalog.unfinished().map_err(|error| outside(&error))?;
        let damaged = catalog.damaged_journals().map_err(|error| outside(&error))?;
        Ok((unfinished, damaged))
    });
    match found {
        Err(failure) => Finding { outcome: Tri::Unknown, ..Finding::failure("operations", &failure) },
        Ok((unfinished, damaged)) => {
            if let Some(row) = unfinished.first() {
                let finding = Finding::new(
                    "operations",
                    Tri::Fail,
                    format!("{} ({}) was begun and is not over", row.id, row.kind),
                );
                let finding = finding.lost("the next operation has to wait for it");
                return finding.next(format!("lifeboat watch {0}, lifeboat resume {0} or lifeboat abort {0}", row.id));
            }
            if let Some((journal, why)) = damaged.first() {
                let finding =
                    Finding::new("operations", Tri::Fail, format!("the journal {journal} cannot be read: {why}"));
                return finding
                    .lost("what that operation did cannot be undone by itself")
                    .next("lifeboat journal verify");
            }
            Finding::new("operations", Tri::Pass, "none is left half done")
        }
    }
}

/// Lease files that cannot be read any more; said only when there is one.
pub fn leases(resolved: &Resolved, io: &Io) -> Vec<Finding> {
    let name = "lease";
    match wire::engine(resolved, io).and_then(|engine| engine.damaged_leases()) {
        Err(failure) => vec![Finding { outcome: Tri::Unknown, ..Finding::failure(name, &failure) }],
        Ok(damaged) => {
            let finding = |path: &String| {
                Finding::new(name, Tri::Fail, format!("{path} is damaged"))
                    .lost("who worked here last is not known any more")
                    .next("lifeboat backup; every operation makes it anew, with a number from the journals")
            };
            damaged.iter().map(finding).collect()
        }
    }
}

/// Whether there is room for what a restore needs: a copy of what is there now on its way into the vault and in it, and the
/// restored copy beside the live one. Summed up for each file system.
pub fn space(resolved: &Resolved) -> Vec<Finding> {
    let vault = match &resolved.setup.vault {
        location if location.is_empty() => None,
        location => outside::place(location, Path::new("/")).ok().and_then(|place| place.folder),
    };
    let mut needs: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
    let mut need = |path: &Path, bytes: u64| {
        if let Some(device) = device(path) {
            needs.entry(device).or_insert_with(|| (nearest(path), 0)).1 += bytes;
        }
    };
    // One resource is restored at a time: the largest decides.
    let sized = resolved.setup.resources.iter().map(|resource| (resource, size_of(resource)));
    let Some((largest, bytes)) = sized.max_by_key(|(_, bytes)| *bytes) else { return Vec::new() };
    need(&resolved.state, bytes);
    if let Some(path) = largest.kind.path() {
        need(files::parent(path), bytes);
    }
    if let Some(vault) = &vault {
        need(vault, bytes);
    }
    needs.into_values().map(|(place, bytes)| room(&place, bytes, largest)).collect()
}

fn room(place: &Path, needed: u64, largest: &Resource) -> Finding {
    let name = "room";
    let free = match files::free_bytes(place) {
        Ok(free) => free,
        Err(error) => {
            return Finding::new(
                name,
                Tri::Unknown,
                format!("the room at {} cannot be told: {}", place.display(), error.source),
            );
        }
    };
    let detail = format!(
        "{} free at {}, {} needed to restore {}",
        show_bytes(free),
        place.display(),
        show_bytes(needed),
        largest.name
    );
    if free > needed {
        return Finding::new(name, Tri::Pass, detail);
    }
    let finding =
        Finding::new(name, Tri::Fail, detail).lost(format!("{} cannot be restored in its place", largest.name));
    finding.next("make room there, or move the vault or the state folder to another disk")
}

fn size_of(resource: &Resource) -> u64 {
    match &resource.kind {
        ResourceKind::Sqlite { path } => {
            let wal = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().to_string_lossy()));
            files::size(path).unwrap_or(0) + files::size(&wal).unwrap_or(0)
        }
        ResourceKind::Files { path, .. } | ResourceKind::Env { path } => files::size_of_tree(path).unwrap_or(0),
        ResourceKind::Postgres { .. } => 0, // its room is on the server
    }
}

/// The path, or the nearest folder above it that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|place| files::exists(place)).unwrap_or(Path::new("/")).to_owned()
}

/// The file system a path is, or would be, on.
fn device(path: &Path) -> Option<u64> {
    files::identity(&nearest(path)).ok().flatten().map(|(device, _)| device)
}
