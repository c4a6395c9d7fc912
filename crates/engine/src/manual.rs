//! The procedure for going back by hand: a document per app with its own names, whose commands need `restic`, `sqlite3` and a
//! shell, and no Lifeboat. Its blocks follow one another in one shell; a test runs them so.

mod by_release;

use std::{fmt::Write, path::Path};

use lifeboat_model::{Backup, Content, Failure, Manifest, Resource, ResourceKind, Timestamp, Writer, time::show_bytes};

use crate::{
    Engine,
    kit::{quote, restic_location},
};

/// Where documents say that it lies, below the app's folder.
pub const PATH: &str = "docs/operations/manual-rollback-procedure.md";
/// The line by which we know a document that we may write over.
pub const MADE_BY: &str =
    "<!-- Made by `lifeboat docs export`; it is written anew, so change the settings, not this file. -->";
/// The folder in which everything lies on its way.
const WORK: &str = "./manual-rollback";
/// Documents that are named at the end when they are there, by their path from this one.
const RELATED: &[(&str, &str)] = &[
    ("Incident Response Playbook", "./incident-response-playbook.md"),
    ("Production Deployment Guide", "../../scripts/db/PRODUCTION-WARNING.md"),
    ("Database Backup Procedures", "../../scripts/migration/backup.sh"),
    ("Supabase Workflow Guide", "../supabase/WORKFLOW.md"),
];

/// What the document is made from.
#[derive(Clone, Debug)]
pub struct Known {
    /// App and environment.
    pub scope: String,
    /// Where the vault is.
    pub vault: String,
    /// Where its password is kept.
    pub password: String,
    /// What is protected.
    pub resources: Vec<Resource>,
    /// The newest good backup, with what it holds.
    pub newest: Option<(Backup, Manifest)>,
    /// When the document was made.
    pub now: Timestamp,
    /// Names of related documents that are there, with their paths.
    pub related: Vec<(String, String)>,
    /// When a proof last showed that a backup can be restored.
    pub proven_at: Option<Timestamp>,
}

impl Engine {
    /// Renders the document that will lie at `at`. Nothing is written.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn manual(&self, at: &Path) -> Result<String, Failure> {
        let mut backups = self.backups()?;
        backups.retain(|one| one.reason != lifeboat_model::BackupReason::Emergency && one.suspect.is_none());
        let proven_at = backups.iter().filter_map(|backup| backup.proven_at).max();
        let newest = backups.pop().map(|newest| self.manifest(&newest.id).map(|manifest| (newest, manifest)));
        let folder = lifeboat_io::files::parent(at);
        let there = RELATED.iter().filter(|(_, path)| lifeboat_io::files::exists(&folder.join(path)));
        let known = Known {
            scope: self.setup().scope.to_string(),
            vault: self.setup().vault.clone(),
            password: self.vaults.password_place(&self.setup().vault),
            resources: self.setup().resources.clone(),
            newest: newest.transpose()?,
            now: self.io.clock.now(),
            related: there.map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect(),
            proven_at,
        };
        Ok(match self.way_back() {
            Some(back) => by_release::render(self, &known, &back),
            None => render(&known),
        })
    }
}

/// Writes the document.
pub fn render(known: &Known) -> String {
    let mut text = format!("{MADE_BY}\n\n# Manual rollback procedure: {}\n\n", known.scope);
    text += "For the day when Lifeboat itself cannot be used. Every command below needs a shell, `restic` and `sqlite3` only. \
             With Lifeboat: `lifeboat restore RESOURCE --dry-run`.\n";
    let parts: [fn(&Known) -> String; 9] = [
        prerequisites,
        quick_reference,
        checklist,
        steps,
        verification,
        troubleshooting,
        scenarios,
        practices,
        closing,
    ];
    parts.iter().for_each(|part| text += &part(known));
    text
}

/// A block of commands.
fn block(lines: &[String]) -> String {
    format!("\n```sh\n{}\n```\n", lines.join("\n"))
}

fn prerequisites(known: &Known) -> String {
    let mut text = String::from("\n## Prerequisites\n\n");
    let _ = writeln!(
        text,
        "- The vault `{}`, which is a restic repository.\n- Its password: {}.",
        known.vault, known.password
    );
    if known.vault.starts_with("s3:") {
        text += "- `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` of its bucket.\n";
    }
    text += "- `restic` 0.14 or newer and `sqlite3`; run everything as the user who owns the app's files, in one shell, in this order.\n";
    text += "- Somebody who watches. Write down the time of every step.\n";
    text + &block(&["restic version".to_owned(), "sqlite3 -version".to_owned()])
}

fn quick_reference(known: &Known) -> String {
    let mut text = String::from("\n## Quick reference\n\n| what | where it lives | kind |\n|---|---|---|\n");
    for resource in &known.resources {
        let _ = writeln!(text, "| {} | `{}` | {} |", resource.name, resource.kind.place(), resource.kind.word());
    }
    match &known.newest {
        Some((backup, _)) => {
            let (at, size) = (backup.recovery_point.strftime("%Y-%m-%d %H:%M:%S UTC"), show_bytes(backup.bytes));
            let snapshot = backup.snapshot.get(..8).unwrap_or(&backup.snapshot);
            let _ = writeln!(
                text,
                "\nWhen this was written the newest good backup was {} (restic snapshot `{snapshot}`), complete up to {at}, {size}. \
                 Whatever was written after a backup is not in it.",
                backup.id
            );
        }
        None => text += "\nWhen this was written there was no good backup.\n",
    }
    text
}

fn checklist(_known: &Known) -> String {
    "\n## Pre-rollback checklist\n\n\
     - [ ] It is certain that data is wrong, and since when; a fault of the code alone is rolled back in the code.\n\
     - [ ] The backup is from before the damage began.\n\
     - [ ] It is known what was written since then and will leave, and somebody has agreed to that.\n\
     - [ ] Everybody who has to know has been told.\n\
     - [ ] There is room on the disk for two more copies of the data.\n\
     - [ ] The decision, its time and its reason are written down.\n"
        .to_owned()
}

fn steps(known: &Known) -> String {
    let mut text = String::from("\n## Rollback procedure\n");
    for (number, (title, words, lines)) in [
        verify_backup(known),
        emergency(known),
        stop(known),
        execute(known),
        verify(known),
        resume(known),
        after(known),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = write!(text, "\n### Step {}: {title}\n\n{words}\n", number + 1);
        text += &block(&lines);
    }
    text
}

type StepText = (&'static str, &'static str, Vec<String>);

/// Where a resource lies once it is restored aside.
fn restored(resource: &Resource) -> String {
    let name = resource.kind.path().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    quote(&format!("{WORK}/restored/{}/{}/{name}", resource.kind.word(), resource.name))
}

fn live(resource: &Resource) -> String {
    quote(&resource.kind.place())
}

/// Picks good backups of this app: emergency ones may hold the damage.
fn good(known: &Known) -> String {
    let tag = |reason: &str| format!("--tag {}", quote(&format!("scope={},reason={reason}", known.scope)));
    ["manual", "scheduled", "pre-deploy"].map(tag).join(" ")
}

fn databases(known: &Known) -> impl Iterator<Item = &Resource> {
    known.resources.iter().filter(|resource| matches!(resource.kind, ResourceKind::Sqlite { .. }))
}

fn verify_backup(known: &Known) -> StepText {
    let good = good(known);
    let mut lines = vec![
        format!("export RESTIC_REPOSITORY={}", quote(&restic_location(&known.vault))),
        format!(
            "restic snapshots {good}        # asks for the password; put another id for \"latest\" below if need be"
        ),
        "restic check".to_owned(),
        format!("mkdir -p {WORK}"),
        format!("restic restore latest {good} --target {WORK}/restored"),
    ];
    for database in databases(known) {
        lines.push(format!(
            "sqlite3 {} 'PRAGMA integrity_check; PRAGMA foreign_key_check;'        # ok, and nothing else",
            restored(database)
        ));
    }
    (
        "Verify backup file",
        "The backup is brought out beside the app and looked at, before anything else is touched.",
        lines,
    )
}

fn emergency(known: &Known) -> StepText {
    let mut lines = vec![format!("mkdir -p {WORK}/emergency")];
    for resource in &known.resources {
        let (from, name) = (live(resource), &resource.name);
        lines.push(match &resource.kind {
            ResourceKind::Sqlite { .. } => {
                format!("if [ -e {from} ]; then sqlite3 {from} \".backup {WORK}/emergency/{name}.sqlite\"; fi")
            }
            ResourceKind::Files { .. } | ResourceKind::Env { .. } => {
                format!("if [ -e {from} ]; then cp -a {from} {WORK}/emergency/{name}; fi")
            }
            ResourceKind::Postgres { .. } => format!("pg_dump -Fc -f {WORK}/emergency/{name}.dump {from}"),
        });
    }
    (
        "Create emergency backup",
        "What is there now is kept, however broken: it is the way back from this procedure.",
        lines,
    )
}

fn writers(known: &Known) -> impl Iterator<Item = &Writer> {
    known.resources.iter().filter_map(|resource| resource.writer.as_ref())
}

fn command(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn stop(known: &Known) -> StepText {
    let mut lines: Vec<String> = writers(known).map(|writer| command(&writer.stop)).collect();
    lines.dedup();
    if lines.is_empty() {
        lines.push(": stop the app by hand; the settings name no command for it".to_owned());
    }
    ("Stop application", "While a program writes, nothing may be replaced.", lines)
}

fn execute(known: &Known) -> StepText {
    let mut lines = Vec::new();
    for resource in &known.resources {
        let (from, to) = (restored(resource), live(resource));
        match &resource.kind {
            ResourceKind::Sqlite { .. } => {
                // A -wal that is left would be replayed over the restored file.
                lines.push(format!("for end in '' -wal -shm -journal; do if [ -e {to}$end ]; then mv {to}$end {to}.broken$end; fi; done"));
                lines.push(format!("cp {from} {to}"));
            }
            ResourceKind::Files { .. } => {
                lines.push(format!("if [ -e {to} ]; then mv {to} {to}.broken; fi"));
                lines.push(format!("cp -a {from} {to}"));
            }
            ResourceKind::Env { .. } => {
                lines.push(format!("if [ -e {to} ]; then mv {to} {to}.broken; fi"));
                lines.push(format!("install -m 600 {from} {to}"));
            }
            ResourceKind::Postgres { .. } => {
                let folder = format!("{WORK}/restored/postgres/{}", resource.name);
                let script = crate::act::readme::postgres(&resource.name, &folder);
                lines.extend(script.lines().filter(|line| !line.is_empty()).map(str::to_owned));
                lines.push(format!("# then rename: the present database aside, `restored` to the name in {to}"));
            }
        }
    }
    let words = "Leave out what is not broken. The former files stay beside the new ones as `.broken`. Secrets in a restored env file are \
                 those of that day: set changed ones again.";
    ("Execute rollback", words, lines)
}

fn verify(known: &Known) -> StepText {
    let mut lines = Vec::new();
    for database in databases(known) {
        let to = live(database);
        lines.push(format!("sqlite3 {to} 'PRAGMA integrity_check; PRAGMA foreign_key_check;'"));
        let part = known.newest.as_ref().and_then(|(_, manifest)| manifest.resource(&database.name));
        let Some(Content::Sqlite(facts)) = part.map(|part| &part.content) else { continue };
        for (table, of) in facts.tables.iter().filter(|(name, _)| !name.starts_with("sqlite_")) {
            let sql = format!("SELECT count(*) FROM \"{}\";", table.replace('"', "\"\""));
            lines.push(format!("sqlite3 {to} {}        # {} when this was written", quote(&sql), of.rows));
        }
    }
    if lines.is_empty() {
        lines.push(": look at the files".to_owned());
    }
    ("Verify rollback success", "Not none, not many more: the newest rows must be from before the damage.", lines)
}

fn resume(known: &Known) -> StepText {
    let mut lines: Vec<String> = writers(known).map(|writer| command(&writer.start)).collect();
    lines.dedup();
    if lines.is_empty() {
        lines.push(": start the app by hand; the settings name no command for it".to_owned());
    }
    ("Resume application", "And watch its log for a quarter of an hour.", lines)
}

fn after(known: &Known) -> StepText {
    let mut lines: Vec<String> =
        databases(known).map(|database| format!("sqlite3 {} 'PRAGMA quick_check;'", live(database))).collect();
    lines.push("restic check".to_owned());
    lines.push(format!("ls -l {WORK}/emergency        # keep it until the incident is closed"));
    ("Post-rollback verification", "Once more with the app running. Then go through the checklist at the end.", lines)
}

fn verification(known: &Known) -> String {
    let mut text = String::from("\n## Verification steps\n\n### Quick verification (2 minutes)\n");
    let quick: Vec<String> =
        databases(known).map(|one| format!("sqlite3 {} 'PRAGMA quick_check;'", live(one))).collect();
    text += &block(&if quick.is_empty() { vec![": look at the files".to_owned()] } else { quick });
    text += "\n### Full verification (10 minutes)\n";
    let mut full = Vec::new();
    for database in databases(known) {
        full.push(format!("sqlite3 {} 'PRAGMA integrity_check; PRAGMA foreign_key_check;'", live(database)));
        for (name, check) in database.checks.iter().filter(|(_, check)| !check.sample) {
            let wanted = [
                check.min.map(|min| format!("at least {min}")),
                check.equals.as_ref().map(|text| format!("exactly {text}")),
                check.percent.map(|percent| format!("at least {percent}")),
            ];
            let wanted = wanted.into_iter().flatten().collect::<Vec<_>>().join(", ").replace('\n', " ");
            full.push(format!("sqlite3 {} {}        # {name}: {wanted}", live(database), quote(&check.sql)));
        }
    }
    full.push("restic check --read-data-subset=1/10".to_owned());
    text + &block(&full)
}

fn troubleshooting(_known: &Known) -> String {
    "\n## Troubleshooting\n\n\
     | what it says | what it means | what to do |\n|---|---|---|\n\
     | `database is locked` | a program still has it open | stop it (step 3); `fuser FILE` names it |\n\
     | `database disk image is malformed` | this file is damaged | take an older snapshot in step 1 |\n\
     | `no such table` | the code is newer or older than the data | roll the code back to the same day |\n\
     | rows are back that were deleted | an old `-wal` was replayed | do step 4 again, all four endings |\n\
     | `wrong password or no key found` | another vault, or another password | see the prerequisites; try its copy elsewhere |\n\
     | `repository is already locked` | another restic or Lifeboat works on it | wait; `restic unlock` when it is certainly dead |\n\
     | `No space left on device` | two more copies have no room | restore to another disk, `--target` in step 1 |\n\
     | success, but data is missing | it was written after the backup | it is in the emergency backup of step 2 |\n"
        .to_owned()
}

fn scenarios(known: &Known) -> String {
    let undo = databases(known).next().map(|one| format!("`mv {0} {0}.restored && mv {0}.broken {0}`", live(one)));
    format!(
        "\n## Recovery scenarios\n\n\
         ### Scenario 1: An automatic rollback failed\n\nStop everything, then all seven steps. What it left beside the files \
         (`.REPLACED.`, `.broken`) is somebody's data: move it, never delete it.\n\n\
         ### Scenario 2: Back to an older state\n\n`restic snapshots {good}`, then its id in the place of `latest` in step 1.\n\n\
         ### Scenario 3: The backup is damaged\n\n`restic check --read-data` tells which. Take the one before it, or the copy of the \
         vault elsewhere.\n\n\
         ### Scenario 4: There is no backup\n\nCopy what is left before anything else. `sqlite3 FILE .recover` gets rows out of a \
         damaged file; files of scripts may lie beside the database.\n\n\
         ### Scenario 5: The rollback made it worse\n\nStop the app and put the former file back: {undo}.\n",
        good = good(known),
        undo = undo.unwrap_or_else(|| "from `.broken`".to_owned()),
    )
}

fn practices(_known: &Known) -> String {
    "\n## Best practices\n\n\
     1. **Always create an emergency backup before a rollback**\n\
     2. **Try the procedure elsewhere first**\n\
     3. **Write down the decision and the times**\n\
     4. **Verify success with the full verification**\n\
     5. **Watch the app closely afterwards**\n\
     6. **Hold a post-mortem within 48 hours**\n\
     7. **Put it into the incident log**\n"
        .to_owned()
}

fn closing(known: &Known) -> String {
    let mut text = String::from(
        "\n## Post-rollback checklist\n\n\
         - [ ] Rollback completed successfully\n- [ ] Verification queries pass\n- [ ] Application health check passes\n\
         - [ ] Smoke tests pass\n- [ ] Stakeholders notified of completion\n- [ ] Incident log updated\n\
         - [ ] Post-mortem scheduled\n- [ ] Backup retention reviewed\n",
    );
    if !known.related.is_empty() {
        text += "\n## Related documentation\n\n";
        known.related.iter().for_each(|(name, path)| text += &format!("- [{name}]({path})\n"));
    }
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    let tested = known.proven_at.map_or_else(|| "never".to_owned(), day);
    text + &format!(
        "\n---\n\nLast updated: {}. A backup was last restored and checked: {tested}. Practise this once a quarter.\n",
        day(known.now)
    )
}
