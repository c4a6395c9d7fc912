//! The same document where versions of an app are sealed with a PostgreSQL database: its seven steps are those of the very plan of a full
//! rollback, as commands. What is typed needs `psql`, `pg_dump`, `restic`, `curl` and the platform's own program.

use std::fmt::Write;

use lifeboat_model::{
    Content, Duration, Manifest, Plan, Profile, Release, Request, Target, VersionAsk, checklist, time::show_duration,
};

use super::{Known, MADE_BY, block, closing, practices};
use crate::{
    Engine,
    by_hand::{Around, address, asked, put, say, typed},
    kit::quote,
    manual_steps::{STEPS, numbers},
    sheet::Sheet,
};

/// What each step is for.
const WORDS: [&str; 7] = [
    "Nothing is changed yet. When one of these fails, stop, and find out why.",
    "Writes are refused first, then whoever writes is stopped: what comes after is in no backup.",
    "What is there now is kept, however broken: it is the way back from this procedure.",
    "The backup is brought back into a database beside, and looked at, before anything is replaced.",
    "From here on rows that came since the backup are only in the emergency backup.",
    "The former version is started; nobody is let in before it answers.",
    "Once more with the app running. Then go through the checklist at the end.",
];

/// A release that the document leads back to.
pub(super) struct Back {
    plan: Plan,
    sheet: Sheet,
    release: Release,
    manifest: Option<Manifest>,
}

impl Engine {
    /// The full rollback that the document tells of: to the last known good release, else to what runs, as it was when it was sealed. Nothing
    /// where no release has a database to bring back.
    pub(super) fn way_back(&self) -> Option<Back> {
        let all = self.releases().ok()?;
        let live = all.iter().find(|one| one.is_live).map(|one| one.release.id.to_string());
        let planned = |to: Option<String>| {
            let about = VersionAsk::RollBack { to, profile: Some(Profile::Full), why: String::new(), backup: None };
            self.plan(&Request::Version { about }).ok()
        };
        let plan = planned(None).or_else(|| planned(Some(live?)))?;
        let backup = plan.steps().find_map(|step| match &step.action {
            lifeboat_model::Action::Postgres(lifeboat_model::PgAction::Fill { backup, .. }) => Some(backup.clone()),
            _other => None,
        })?;
        let release = all.into_iter().find(|one| one.release.backup.as_ref() == Some(&backup))?.release;
        let (sheet, manifest) = (self.sheet(&plan).ok()?, self.manifest(&backup).ok());
        Some(Back { plan, sheet, release, manifest })
    }
}

pub(super) fn render(engine: &Engine, known: &Known, back: &Back) -> String {
    let around = Around { env: &*engine.io.env, manifest: back.manifest.as_ref() };
    let targets = &engine.setup().targets;
    let mut text = format!("{MADE_BY}\n\n# Manual rollback procedure: {}\n\n", known.scope);
    text += "For the day when Lifeboat itself cannot be used: it leads application and database back together. Values are those of the day on \
             which it was made. With Lifeboat: `lifeboat rollback --manual`.\n";
    text += &prerequisites(back);
    text += &quick_reference(known, back);
    text += &list("pre-rollback", "Pre-rollback checklist");
    text += &steps(back);
    text += &verification(back, targets, &around);
    text += &troubleshooting();
    text += &scenarios(known, back);
    text += &practices(known);
    text + &closing(known)
}

fn prerequisites(back: &Back) -> String {
    let mut text = String::from("\n## Prerequisites\n\n");
    back.sheet.needs.iter().for_each(|need| text += &format!("- {need}\n"));
    text += "- Somebody who watches. Write down the time of every step. Everything is typed in one shell (`bash`), in this order.\n";
    text + &block(&["psql --version".to_owned(), "pg_dump --version".to_owned(), "restic version".to_owned()])
}

fn quick_reference(known: &Known, back: &Back) -> String {
    let release = &back.release;
    let mut text = String::from("\n## Quick reference\n\n| what | value |\n|---|---|\n");
    let mut row = |what: &str, value: String| {
        let _ = writeln!(text, "| {what} | {value} |");
    };
    row("goes back to", release.shown());
    row(
        "its backup",
        release.backup.as_ref().map_or_else(|| "none".to_owned(), |id| format!("`{id}`, in `{}`", known.vault)),
    );
    for one in &release.artifacts {
        row(one.target.as_str(), format!("`{}`", one.version));
    }
    for (name, schema) in &release.databases {
        row(name.as_str(), format!("migrations up to `{}`", schema.applied.last().map_or("none", String::as_str)));
    }
    for resource in &known.resources {
        row(&format!("{} lies in", resource.name), format!("`{}`", resource.kind.place()));
    }
    let total: u64 = back.sheet.phases.iter().filter_map(|phase| phase.budget_ms).sum();
    row("all of it may take", show_duration(Duration::from_millis(total)));
    if !back.sheet.leaves.is_empty() {
        text += "\nWhen this was written, these rows would have left:\n\n";
        back.sheet.leaves.iter().for_each(|line| text += &format!("- {line}\n"));
    }
    text + "\nEvery row that is written after that backup leaves, and every change is undone. It is in the emergency backup of step 3.\n"
}

/// A checklist of the documents, to be ticked with a pen.
fn list(key: &str, title: &str) -> String {
    let items = checklist::list(key).map_or(&[][..], |list| list.items);
    let lines = items.iter().map(|item| format!("- [ ] {}\n", item.title));
    format!("\n## {title}\n\n{}", lines.collect::<String>())
}

fn steps(back: &Back) -> String {
    let mut text = String::from(
        "\n## Rollback procedure\n\nStop at the first command that fails; do not repeat it without understanding why. What takes a step \
         back stands below it, and is typed from the last step to the first. Behind the point of no return go on to the end.\n",
    );
    text += &block(&back.sheet.first);
    let all: Vec<_> = back.sheet.phases.iter().flat_map(|phase| &phase.steps).zip(numbers(&back.plan)).collect();
    for (at, (title, words)) in STEPS.iter().zip(WORDS).enumerate() {
        let mut letters = title.chars();
        let title: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        let _ = write!(text, "\n### Step {}: {title}\n\n{words}\n", at + 1);
        for (step, _) in all.iter().filter(|(_, number)| *number == at + 1) {
            let _ = write!(text, "\n**{}**\n", step.title);
            if step.no_return {
                text +=
                    "\nTHE POINT OF NO RETURN: from here on only forward. Does every point of the checklist stand?\n";
            }
            if let Some(instead) = &step.instead {
                let _ = write!(text, "\n{instead}\n");
            }
            if !step.commands.is_empty() {
                text += &block(&step.commands);
            }
            if !step.back.is_empty() {
                let _ = write!(text, "\nTo take it back:\n\n```text\n{}\n```\n", step.back.join("\n"));
            }
        }
    }
    text
}

fn verification(back: &Back, targets: &[Target], around: &Around<'_>) -> String {
    let mut quick = Vec::new();
    for target in targets {
        quick.extend(target.questions.iter().flat_map(put));
        let Some(url) = &target.url else { continue };
        let url = url.trim_end_matches('/');
        quick.extend(target.probes.iter().map(|probe| asked(url, probe)));
    }
    let urls: Vec<(String, &lifeboat_model::SchemaState)> = back
        .plan
        .steps()
        .find_map(|step| match &step.action {
            lifeboat_model::Action::Postgres(lifeboat_model::PgAction::CheckSource { url }) => {
                Some(address(url, None, around))
            }
            _other => None,
        })
        .into_iter()
        .zip(back.release.databases.values())
        .collect();
    for (at, schema) in &urls {
        let of = schema.applied.last().map_or("none", String::as_str);
        let (ledger, column) = (&schema.ledger, &schema.ledger.column);
        let table = format!("\"{}\".\"{}\"", ledger.schema, ledger.table);
        let newest = format!("SELECT \"{column}\" FROM {table} ORDER BY 1 DESC LIMIT 5");
        quick.push(format!("{}        # the first is {of}", say(at, &newest)));
    }
    let mut full = Vec::new();
    for (at, _) in &urls {
        for (what, sql) in [
            (
                "foreign keys that were not checked: none",
                "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated",
            ),
            ("broken indexes: none", "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"),
            ("whether everybody may write: off", "SHOW default_transaction_read_only"),
        ] {
            full.push(format!("{}        # {what}", say(at, sql)));
        }
        for part in back.manifest.iter().flat_map(|manifest| &manifest.resources) {
            let Content::Postgres(facts) = &part.content else { continue };
            let counted = facts.tables.iter().map(|(table, of)| {
                format!("{}        # {} in the backup", say(at, &format!("SELECT count(*) FROM {table}")), of.rows.rows)
            });
            full.extend(counted);
        }
    }
    for target in targets {
        let Some(smoke) = &target.smoke else { continue };
        full.push(format!("(cd {} && {})", quote(&target.folder.display().to_string()), typed(smoke)));
    }
    let or = |lines: Vec<String>| if lines.is_empty() { vec![": look at the app".to_owned()] } else { lines };
    let mut text = format!("\n## Verification steps\n\n### Quick verification (2 minutes)\n{}", block(&or(quick)));
    text += &format!("\n### Full verification (10 minutes)\n{}", block(&or(full)));
    let items = checklist::list("verification").map_or(&[][..], |list| list.items);
    text += "\n";
    items.iter().for_each(|item| text += &format!("- [ ] {}\n", item.title));
    text
}

fn troubleshooting() -> String {
    "\n## Troubleshooting\n\n\
     | what it says | what it means | what to do |\n|---|---|---|\n\
     | `permission denied` | this role may not do that | connect as the owner of the database; see the prerequisites |\n\
     | `database \"...\" does not exist` | it is called otherwise, or the swap of step 5 was cut in two | `psql -l`; rename what is kept back |\n\
     | `connection refused` | the server is down, or elsewhere | ask the provider; nothing of this document helps before that |\n\
     | `database is being accessed by other users` | somebody is still connected | do step 2 again; `pg_stat_activity` names them |\n\
     | `cannot execute ... in a read-only transaction` | writes are still refused | `ALTER DATABASE ... RESET default_transaction_read_only`, connect anew |\n\
     | `canceling statement due to lock timeout` | a session holds the table | end it; it was not stopped in step 2 |\n\
     | `wrong password or no key found` | another vault, or another password | see the prerequisites; try its copy elsewhere |\n\
     | `No space left on device` | two more copies have no room | restore to another disk, `--target` in step 4 |\n\
     | success, but data is missing | it was written after the backup | it is in the emergency backup of step 3 |\n\
     | the app fails after the rollback | its version and its schema do not belong together | compare with the quick reference; step 5 has both |\n"
        .to_owned()
}

fn scenarios(known: &Known, back: &Back) -> String {
    let tag = quote(&format!("scope={}", known.scope));
    let id = back.release.backup.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "\n## Recovery scenarios\n\n\
         ### Scenario 1: An automatic rollback failed\n\nIts journal names the step (`lifeboat status`, or the newest file of `operations` in its \
         state folder). Stop the app, then all seven steps: each may be repeated. Databases with `lifeboat` in their name are somebody's data.\n\n\
         ### Scenario 2: Back to an older state\n\n`restic snapshots --tag {tag}`, then its `id=` in the place of `{id}` in step 4, and the version \
         of that day in step 5.\n\n\
         ### Scenario 3: The backup is damaged\n\n`restic check --read-data` tells which. Take the one before it, or the copy of the vault \
         elsewhere. Nothing has been replaced before step 5.\n\n\
         ### Scenario 4: There is no backup\n\n`pg_dump` what is left before anything else. Ask the provider for its own backups; migrations may \
         have DOWN scripts.\n\n\
         ### Scenario 5: The rollback made it worse\n\nStop the app. The former database is kept under its own name: rename the two back, in the \
         other order than in step 5, and switch the version back.\n"
    )
}
