//! `lifeboat shims install`: the scripts that an app's own documents tell people to run, as thin wrappers.

use std::path::{Path, PathBuf};

use lifeboat_io::files;
use lifeboat_model::{ExitCode, Failure, FailureKind, ResourceKind, ResourceName};
use serde_json::json;

use super::{App, Session};
use crate::{
    cli::exports::ShimsCommand,
    error::{Done, Ended},
    ui::words::quoted,
};

/// The script that documents name, below the app's folder.
const BACKUP_NOW: &str = "scripts/backup-now.sh";

/// The script behind `npm run db:validate:all`.
const VALIDATE_ALL: &str = "scripts/db-validate-all.sh";

/// The scripts of a mirrored app.
const MONITOR_SYNC: &str = "scripts/monitor-sync.sh";
const RESYNC: &str = "scripts/resync-to-cloud";
const RESYNC_JS: &str = "scripts/resync-to-cloud.js";

/// The file that documents promise.
const PATTERN: &str = "backups/database-pre-change-YYYYMMDD-HHMMSS.sqlite";

pub fn run(app: &App, command: &ShimsCommand) -> Done {
    match command {
        ShimsCommand::Install { dir, resource } => install(app, dir, resource.as_deref()),
        ShimsCommand::Workflow { dir } => workflow(app, dir),
    }
}

fn install(app: &App, dir: &Path, resource: Option<&str>) -> Done {
    let session = app.open(&resource.map(str::to_owned).into_iter().collect::<Vec<_>>())?;
    let name = database(&session)?;
    let mut scripts = vec![
        (dir.join(BACKUP_NOW), backup_now(&name, app.again())),
        (dir.join(VALIDATE_ALL), validate_all(&name, app.again())),
    ];
    if !session.engine.setup().links.is_empty() {
        scripts.push((dir.join(MONITOR_SYNC), monitor_sync(app.again())));
        scripts.push((dir.join(RESYNC), resync(app.again())));
        scripts.push((dir.join(RESYNC_JS), RESYNC_BY_NODE.to_owned()));
    }
    written(app, &scripts, 0o755)?;
    if app.ui.json.is_none() && files::exists(&dir.join("package.json")) {
        app.ui.talk(&format!("For npm run db:validate:all: npm pkg set scripts.db:validate:all=./{VALIDATE_ALL}\n"));
    }
    Ok(ExitCode::Ok)
}

/// Writes files that are not there yet, all or none, and says which.
fn written(app: &App, scripts: &[(PathBuf, String)], mode: u32) -> Result<(), Ended> {
    if let Some((path, _)) = scripts.iter().find(|(path, _)| files::exists(path)) {
        let failure =
            Failure::new(FailureKind::Refused, format!("{} is there already and stays as it is", path.display()));
        return Err(failure
            .hint(format!("look at it; when it is not needed: rm {}", quoted(&path.display().to_string())))
            .into());
    }
    let failed = |error| Failure::from_error(FailureKind::Outside, &error).while_doing("the file cannot be written");
    for (path, text) in scripts {
        files::create_folder(files::parent(path)).map_err(failed)?;
        files::write_with_mode(path, text.as_bytes(), mode).map_err(failed)?;
    }
    let paths: Vec<String> = scripts.iter().map(|(path, _)| path.display().to_string()).collect();
    match app.ui.json {
        Some(_) => app.ui.document("lifeboat/shims@1", json!({ "written": paths, "exit_code": 0 }))?,
        None => app.ui.out(&format!("Wrote {}.\n", paths.join(" and ")))?,
    }
    Ok(())
}

/// The workflow behind GitHub's button, for whoever cannot reach the host.
fn workflow(app: &App, dir: &Path) -> Done {
    let session = app.open(&[])?;
    let setup = session.engine.setup();
    let environment = &setup.scope.environment;
    let settings = setup.settings_file.as_deref().map(files::resolved).ok_or_else(|| {
        Failure::new(FailureKind::Refused, "a workflow needs a settings file to start from").hint("lifeboat init")
    })?;
    let text = WORKFLOW
        .replace("{environment}", environment)
        .replace("{folder}", &in_quotes(&files::parent(&settings).display().to_string()));
    written(app, &[(dir.join(format!(".github/workflows/rollback-{environment}.yml")), text)], 0o644)?;
    let says = "Commit it to the repository's own branch, and give it a runner on this host with the label lifeboat.\n";
    app.ui.talk(says);
    Ok(ExitCode::Ok)
}

/// A text as YAML has it between double quotes.
fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// GitHub asks for the reason; a call that gives an empty one is stopped by the first step. The reason is a variable and no part of
/// a command, since whoever starts it could write commands into it.
const WORKFLOW: &str = "# Made by `lifeboat shims workflow`: a rollback of {environment} that is started on GitHub, by
# `lifeboat rollback --workflow --reason WHY`, or by `gh workflow run rollback-{environment}.yml -f reason=WHY`.
name: Rollback {environment}
run-name: \"Rollback {environment}: ${{ inputs.reason }}\"
on:
  workflow_dispatch:
    inputs:
      reason:
        description: \"Why, for example: Emergency rollback - {environment} down\"
        required: true
        type: string
permissions: {}
concurrency:
  group: rollback-{environment}
  cancel-in-progress: false
jobs:
  rollback:
    # A runner of your own on the host that has the settings, the journals and the secrets; none of them is known to GitHub.
    runs-on: [self-hosted, lifeboat]
    timeout-minutes: 30
    env:
      REASON: ${{ inputs.reason }}
    steps:
      - name: There is a reason
        shell: bash
        run: |
          if [ -z \"${REASON//[[:space:]]/}\" ]; then echo 'the reason is missing' >&2; exit 1; fi
      - name: Roll back
        shell: bash
        working-directory: {folder}
        run: lifeboat rollback --env {environment} --reason \"$REASON\" --yes
";

fn backup_now(name: &ResourceName, again: &str) -> String {
    format!(
        "#!/bin/sh\n# Made by `lifeboat shims install`: a verified backup, and a copy of the database in backups/.\n\
         cd \"$(dirname \"$0\")/..\" && exec lifeboat backup {name} --copy-to {PATTERN} --alias{again} \"$@\"\n"
    )
}

fn monitor_sync(again: &str) -> String {
    format!(
        "#!/bin/sh\n# Made by `lifeboat shims install`: ALERT lines about the mirror; nothing when all is well.\n\
         cd \"$(dirname \"$0\")/..\" && exec lifeboat monitor sync{again} \"$@\"\n"
    )
}

fn resync(again: &str) -> String {
    format!(
        "#!/bin/sh\n# Made by `lifeboat shims install`: makes the cloud equal to the file; fails when it is not in the end.\n\
         cd \"$(dirname \"$0\")/..\" && exec lifeboat sync resync --yes{again} \"$@\"\n"
    )
}

/// Documents of Node apps run it with `node`; it ends as the script beside it does.
const RESYNC_BY_NODE: &str =
    "// Made by `lifeboat shims install`: makes the cloud equal to the file; fails when it is not in the end.
const { spawnSync } = require('node:child_process');
const script = require('node:path').join(__dirname, 'resync-to-cloud');
const done = spawnSync(script, process.argv.slice(2), { stdio: 'inherit' });
if (done.error) console.error(String(done.error));
process.exit(done.status ?? 1);
";

fn validate_all(name: &ResourceName, again: &str) -> String {
    format!(
        "#!/bin/sh\n# Made by `lifeboat shims install`: is the data sound? Ends with GO, or with what is in its way.\n\
         cd \"$(dirname \"$0\")/..\" && exec lifeboat verify {name} --full{again} \"$@\"\n"
    )
}

fn database(session: &Session) -> Result<ResourceName, Failure> {
    if let Some(name) = session.named.first() {
        return Ok(name.clone());
    }
    let databases =
        session.engine.setup().resources.iter().filter(|one| matches!(one.kind, ResourceKind::Sqlite { .. }));
    match databases.map(|one| &one.name).collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::new(FailureKind::Refused, "no SQLite database is protected here; there is nothing to copy")),
        [one, ..] => {
            let failure = Failure::new(FailureKind::Usage, "more than one database is protected here");
            Err(failure.hint(format!("name the one that the script copies: lifeboat shims install {one}")))
        }
    }
}
