//! Files of variables: values out of a backup set in their place, by names. No value is ever told.

use std::path::Path;

use lifeboat_io::files;
use lifeboat_model::{
    BackupId, EnvAction, Failure, FailureKind, ResourceName,
    variables::{with_value, without, written_value},
};
use serde_json::{Value, json};

use super::{Hands, path_failure, target::put_file_back};
use crate::{perform::Context, variables::env_text};

pub(super) fn perform(hands: &Hands, action: &EnvAction, context: &Context<'_>) -> Result<Value, Failure> {
    match action {
        EnvAction::Restore { vault, backup, resource, file, kept, set, remove } => {
            let then = env_text(&hands.vaults.open(vault)?, backup, resource, context.stop)?;
            restore(&then, (backup, resource), (file, kept), set, remove)
        }
        EnvAction::Look { vault, backup, resource } => {
            let then = env_text(&hands.vaults.open(vault)?, backup, resource, context.stop)?;
            Ok(json!({ "bytes": then.len() }))
        }
        EnvAction::Set { file, name, value } => set(file, name, value.as_deref()),
        EnvAction::PutBack { file, kept, aside } => {
            if let Some(aside) = aside.as_ref().filter(|aside| files::exists(kept) && !files::exists(aside)) {
                let failed = |error| path_failure(&error);
                let mode = files::mode(file).map_err(failed)? & 0o777;
                files::write_with_mode(aside, &files::read(file).map_err(failed)?, mode).map_err(failed)?;
            }
            put_file_back(file, kept)
        }
    }
}

/// One variable, and nothing else of the file.
fn set(file: &Path, name: &str, value: Option<&str>) -> Result<Value, Failure> {
    let failed = |error| path_failure(&error);
    let (text, mode) = (files::read_text(file).map_err(failed)?, files::mode(file).map_err(failed)? & 0o777);
    let changed = value.map_or_else(|| without(&text, name), |value| with_value(&text, name, value));
    if changed != text {
        files::write_with_mode(file, changed.as_bytes(), mode).map_err(failed)?;
    }
    Ok(json!({ "name": name }))
}

/// The former file is kept first; one that is kept already is the former one, whatever is there by now.
fn restore(
    then: &str,
    (backup, resource): (&BackupId, &ResourceName),
    (file, kept): (&Path, &Path),
    set: &[String],
    remove: &[String],
) -> Result<Value, Failure> {
    let failed = |error| path_failure(&error);
    let (before, mode) = match files::exists(file) {
        true => (files::read_text(file).map_err(failed)?, files::mode(file).map_err(failed)? & 0o777),
        false => (String::new(), 0o600),
    };
    if !files::exists(kept) {
        files::write_with_mode(kept, before.as_bytes(), mode).map_err(failed)?;
    }
    let mut text = before;
    for name in set {
        let value = written_value(then, name).ok_or_else(|| {
            Failure::new(FailureKind::Damaged, format!("{resource} in {backup} does not hold {name}"))
        })?;
        text = with_value(&text, name, value);
    }
    for name in remove {
        text = without(&text, name);
    }
    files::write_with_mode(file, text.as_bytes(), mode).map_err(failed)?;
    Ok(json!({ "set": set, "removed": remove, "kept": kept }))
}
