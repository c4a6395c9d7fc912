//! Planning to take migrations back by their DOWN scripts: writes are stopped, what is there is backed up, and all scripts run
//! in one transaction with the rows of the ledger. For a revert by itself, and as a part of a rollback.

use lifeboat_model::{
    Action, BackupReason, Failure, FailureKind, KeptFor, KnownRelease, Lease, Ledger, Loss, LossLine, Migration,
    Migrations, PgAction, Phase, Plan, Request, ResourceName, RevertTo, StepClass, Undo, VersionAsk, migration,
    release,
};

use super::{
    databases, restore,
    steps::{self, Taking, by, phase, read, step},
};
use crate::{
    Engine,
    act::postgres::reverts,
    facts::{Common, Live},
    releases::is_by_file,
};

/// A database with migrations, as it is and as it is wanted.
pub(crate) struct Base {
    pub name: ResourceName,
    pub live: Live,
    pub url: String,
    pub said: Migrations,
    pub ledger: Ledger,
    /// What was applied beyond what is wanted, newest first, with the script that takes it back where there is one.
    pub extra: Vec<(String, Option<Migration>)>,
    /// What is wanted and was not applied.
    pub missing: Vec<String>,
    /// What was begun and did not come to its end, as the tool notes it.
    pub failed: Vec<String>,
    /// Whether the ledger holds the newest version alone.
    pub head_only: bool,
    /// What the scripts say that they drop: tables with the rows in them now, columns with their values.
    pub leaving: Vec<LossLine>,
}

/// From what was applied, oldest first, to what is wanted of it.
pub(crate) type Wanted<'a> = dyn Fn(&[String]) -> Result<Vec<String>, Failure> + 'a;

/// Looks at a database and compares it with the migrations that are wanted.
pub(crate) fn base(
    engine: &Engine,
    name: &ResourceName,
    all: &[KnownRelease],
    wanted: &Wanted<'_>,
) -> Result<Base, Failure> {
    let (resource, url, said) = engine.migrations_of(name)?;
    let applied = engine.applied(name)?;
    let wanted = wanted(&applied.versions)?;
    let extra = migration::beyond(&applied.versions, &wanted);
    // A folder that is not there any more says nothing; what was sealed does.
    let folder = engine.scripts(name, is_by_file(&applied)).unwrap_or_default();
    let scripts = release::scripts_of(&extra, all, name, &folder);
    let extra: Vec<_> = extra.iter().cloned().zip(scripts.into_iter().map(Option::<&Migration>::cloned)).collect();
    let missing = wanted.iter().filter(|version| !applied.versions.contains(version)).cloned().collect();
    let drops = extra.iter().filter_map(|(_, script)| script.as_ref()?.down.as_ref());
    let drops: Vec<String> = drops.flat_map(|down| migration::drops(&down.text)).collect();
    let address = engine.vaults.database(url)?;
    let mut leaving = reverts::rows_in(&address, &drops)?;
    let downs = extra.iter().filter_map(|(_, script)| script.as_ref()?.down.as_ref());
    let columns: Vec<_> = downs.flat_map(|down| migration::drops_columns(&down.text)).collect();
    let values = reverts::values_leaving(&address, &columns)?;
    // What goes with its table goes once.
    let beside = |value: &LossLine| !leaving.iter().any(|line| line.table == value.table);
    leaving.extend(values.into_iter().filter(beside).collect::<Vec<_>>());
    Ok(Base {
        name: name.clone(),
        live: engine.live(resource)?,
        url: url.to_owned(),
        said: said.clone(),
        ledger: applied.ledger,
        extra,
        missing,
        failed: applied.failed,
        head_only: applied.head_only,
        leaving,
    })
}

impl Base {
    /// Why its migrations cannot be taken back by scripts, when they cannot.
    pub(crate) fn why_not(&self) -> Option<String> {
        let name = &self.name;
        if !self.missing.is_empty() {
            return Some(format!("{name} lacks {}, which DOWN scripts cannot bring back", self.missing.join(", ")));
        }
        if self.head_only && !self.extra.is_empty() {
            return Some(format!("{} holds the newest version alone, and only its own tool can set it", self.ledger));
        }
        if !self.failed.is_empty() {
            let failed = self.failed.join(", ");
            return Some(format!(
                "{failed} was begun in {name} and did not come to its end; its tool has to settle that first"
            ));
        }
        for (version, script) in &self.extra {
            match script.as_ref().and_then(|script| Some((&script.name, script.down.as_ref()?))) {
                None => return Some(format!("migration {version} of {name} has no DOWN script")),
                Some((file, down)) => {
                    if let Some(why) = migration::outside_transaction(&down.text) {
                        return Some(format!("the DOWN script of {file}: {why}"));
                    }
                }
            }
        }
        None
    }

    fn scripts(&self) -> Vec<Migration> {
        self.extra.iter().filter_map(|(_, script)| script.clone()).collect()
    }

    /// Refuses every write; what is behind it is what is taken back.
    pub(crate) fn fence(&self, why: &str) -> lifeboat_model::Step {
        let fence = |on: bool| {
            Action::Postgres(PgAction::Fence {
                url: self.url.clone(),
                on,
                why: why.to_owned(),
                brief: false,
                database: None,
            })
        };
        let title = format!("refuse every write to {}, and see that none is left", self.name);
        step(format!("fence.{}", self.name), title, StepClass::Idempotent, fence(true), by(fence(false)))
    }

    /// The emergency backup.
    pub(crate) fn taking<'a>(&'a self, common: &'a Common) -> Taking<'a> {
        Taking {
            common,
            prefix: "keep.",
            backup: common.ids.backup.clone(),
            reason: BackupReason::Emergency,
            label: Some(format!("before {}", common.ids.plan)),
            sources: std::slice::from_ref(&self.live),
            instead: None,
        }
    }

    /// All scripts, newest first, in one transaction, which takes the fence along; what leaves is kept with the operation.
    pub(crate) fn down(&self, common: &Common) -> lifeboat_model::Step {
        let names: Vec<&str> = self.extra.iter().map(|(version, _)| version.as_str()).collect();
        let title = format!("take back {} in {}, newest first, in one transaction", names.join(", "), self.name);
        let action = Action::Postgres(PgAction::Revert {
            url: self.url.clone(),
            ledger: self.ledger.clone(),
            migrations: self.scripts(),
            lock_timeout_ms: self.said.lock_timeout_ms,
            statement_timeout_ms: self.said.statement_timeout_ms,
            keep: Some(Box::new(KeptFor { resource: self.live.resource.clone(), backup: common.ids.backup.clone() })),
        });
        let because =
            "the schema is the former one from here on; what left is kept, and in the emergency backup".to_owned();
        step("down", title, StepClass::Pivot, action, Undo::Impossible { because })
    }

    /// What leaves with the tables and columns that the scripts drop.
    pub(crate) fn loss(&self, common: &Common) -> Option<Loss> {
        let kept = format!("emergency backup {}", common.ids.backup);
        let what: Vec<LossLine> = self.leaving.clone();
        (!what.is_empty()).then(|| Loss { resource: self.name.clone(), since: common.now, what, kept })
    }
}

/// What is known when migrations of one database are taken back by themselves.
pub(crate) struct Known {
    common: Common,
    base: Base,
}

pub(crate) fn gather(engine: &Engine, request: &Request) -> Result<Known, Failure> {
    let Request::Version { about: VersionAsk::Revert { resource, to, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let all = engine.releases()?;
    let wanted = |applied: &[String]| wanted(applied, to, resource, &all);
    let (common, base) = (engine.common()?, base(engine, resource, &all, &wanted)?);
    let live = engine.foreseen(base.live, &common);
    Ok(Known { common, base: Base { live, ..base } })
}

/// What stays applied.
fn wanted(
    applied: &[String],
    to: &RevertTo,
    name: &ResourceName,
    all: &[KnownRelease],
) -> Result<Vec<String>, Failure> {
    match to {
        RevertTo::Version(version) => match applied.iter().position(|one| one == version) {
            Some(at) => Ok(applied[..=at].to_vec()),
            None => {
                let failure = Failure::new(FailureKind::Usage, format!("{version} was not applied to {name}"));
                Err(failure.hint("lifeboat migrate status shows what was"))
            }
        },
        RevertTo::Steps(steps) => Ok(applied[..applied.len().saturating_sub(*steps as usize)].to_vec()),
        RevertTo::Release(wanted) => {
            let known = release::choose(all, Some(wanted), &[])?;
            let state = known.release.databases.get(name).ok_or_else(|| {
                Failure::new(FailureKind::Refused, format!("{} knows no migrations of {name}", known.release.shown()))
            })?;
            Ok(state.applied.clone())
        }
    }
}

/// Plans to take migrations back.
///
/// # Errors
/// A DOWN script is missing, or cannot be run so that all or nothing happens.
pub(crate) fn plan(known: &Known, request: &Request) -> Result<Plan, Failure> {
    let Request::Version { about: VersionAsk::Revert { why, .. } } = request else {
        return Err(steps::wrong_planner());
    };
    let (common, base) = (&known.common, &known.base);
    if let Some(why) = base.why_not() {
        let failure =
            Failure::new(FailureKind::Refused, format!("the migrations of {} cannot be taken back so", base.name));
        return Err(failure.because(why).hint(format!(
            "write that script beside the migration, or go back by a backup: lifeboat restore {} --dry-run",
            base.name
        )));
    }
    let title = format!("take migrations of {} of {} back", base.name, common.scope);
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    if base.extra.is_empty() {
        return Ok(plan);
    }
    let why = if why.trim().is_empty() { "migrations are taken back" } else { why.trim() };
    plan.phases = phases(common, base, why);
    plan.losses = base.loss(common).into_iter().collect();
    plan.notes = vec![
        format!(
            "Rows of tables that stay are not touched; a statement that waits {} ms for a lock ends it all.",
            base.said.lock_timeout_ms
        ),
        "The app has to be the one that knows the former schema: lifeboat rollback takes both back.".to_owned(),
    ];
    Ok(plan)
}

/// Look, fence, keep, take back.
fn phases(common: &Common, base: &Base, why: &str) -> Vec<Phase> {
    let taking = base.taking(common);
    let source = Action::Postgres(PgAction::CheckSource { url: base.url.clone() });
    let look = vec![read("check-source", format!("{} can be captured first", base.name), source)];
    vec![
        phase(common, "preflight", vec![], look),
        phase(common, "fence", vec![], vec![base.fence(why)]),
        phase(common, "emergency-backup", taking.predict_store(), taking.store()),
        phase(common, "down", vec![], vec![base.down(common)]),
    ]
}

/// Plans to try what is about to be applied on a copy of a backup. Nothing of the environment is touched.
///
/// # Errors
/// Nothing is pending; a script would end the transaction that keeps the copy as it is; there is no backup.
pub(crate) fn rehearse(engine: &Engine, request: &Request) -> Result<Plan, Failure> {
    let Request::Version { about: VersionAsk::Rehearse { resource: name, from } } = request else {
        return Err(steps::wrong_planner());
    };
    let (resource, url, said) = engine.migrations_of(name)?;
    let applied = engine.applied(name)?;
    let pending = migration::pending(&engine.script_files(name)?, is_by_file(&applied), &applied.versions);
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    if pending.is_empty() {
        let failure = refused(format!("no migration of {name} is about to be applied, so there is none to rehearse"));
        return Err(failure.hint("lifeboat migrate status shows what was applied"));
    }
    for one in &pending {
        let texts = one.migration.down.iter().chain([&one.up]);
        if let Some(why) = texts.filter_map(|script| migration::outside_transaction(&script.text)).next() {
            return Err(refused(format!("{} cannot be rehearsed: {why}", one.migration.name)));
        }
    }
    let common = engine.common()?;
    if !common.vault_exists {
        return Err(steps::no_vault(&common));
    }
    let (backup, part) = restore::choose(engine, &engine.backups_for(from)?, resource, from)?;
    let lifeboat_model::Content::Postgres(facts) = &part.content else { return Err(steps::wrong_planner()) };
    let names: Vec<String> = pending.iter().map(|one| one.migration.name.clone()).collect();
    let title = format!("rehearse {} on a copy of {}", names.join(", "), backup.id);
    let mut plan = steps::new_plan(&common, request, title, Lease::Sandbox);
    let stored = Action::CheckBackup { vault: common.vault.clone(), backup: backup.id.clone() };
    let look = read("check-backup", format!("{} is whole in the vault", backup.id), stored);
    plan.phases.push(phase(&common, "preflight", vec![], vec![look]));
    let (phases, database) = databases::fill_for(&common, &backup, resource, &part, url, &facts.database.name);
    plan.phases.extend(phases);
    let action = PgAction::Rehearse {
        url: url.to_owned(),
        database: database.clone(),
        pending,
        statement_timeout_ms: said.statement_timeout_ms,
        at_least: None,
    };
    let up = "apply them, take them back, apply them again, and compare";
    let drop = Action::Postgres(PgAction::Drop { url: url.to_owned(), database: database.clone() });
    let tried = vec![
        step("rehearse", up, StepClass::Idempotent, Action::Postgres(action), Undo::Nothing),
        step("clean", format!("drop {database}"), StepClass::Idempotent, drop, Undo::Nothing),
    ];
    plan.phases.push(phase(&common, "rehearse", vec![], tried));
    Ok(plan)
}
