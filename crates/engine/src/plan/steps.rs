//! Steps that several planners use, so that the same thing has the same name, class and undo everywhere.

use std::path::PathBuf;

use lifeboat_model::{
    Action, BackupId, BackupReason, Lease, OnFailure, Part, Phase, Plan, Prediction, Request, Resource, ResourceKind,
    Step, StepClass, StepId, Undo, plan::PLAN_SCHEMA, predict, time::show_bytes,
};

use crate::facts::{Common, Live};

/// Typical rates in MiB a second, for the first run; measured on two cores of an ordinary server.
pub mod guess {
    /// Copying a live database.
    pub const CAPTURE: f64 = 400.0;
    /// Checking, chunking, compressing, sealing, storing.
    pub const STORE: f64 = 120.0;
    /// Looking at what was stored.
    pub const VERIFY: f64 = 1000.0;
    /// Bringing data back.
    pub const FETCH: f64 = 250.0;
    /// Comparing a copy with its manifest.
    pub const CHECK: f64 = 120.0;
}

/// Larger databases are copied before they are stored, so that their WAL does not grow while they are: at 120 MiB a second
/// this is two minutes.
const IN_PLACE_BYTES_MAX: u64 = 16 << 30;

/// There is no vault where one should be.
pub fn no_vault(common: &Common) -> lifeboat_model::Failure {
    let message = format!("there is no vault in {}", common.vault);
    lifeboat_model::Failure::new(lifeboat_model::FailureKind::Refused, message)
        .hint("check the vault's location; the first `lifeboat backup` makes one there")
}

/// A planner was asked for something that another one plans.
pub(crate) fn wrong_planner() -> lifeboat_model::Failure {
    lifeboat_model::Failure::new(lifeboat_model::FailureKind::Bug, "a request came to the wrong planner")
}

/// Says that a backup is of something else than what it replaces.
pub(crate) fn whose(
    common: &Common,
    backup: &lifeboat_model::Backup,
    part: &lifeboat_model::ResourceManifest,
    resource: &Resource,
) -> Option<String> {
    let other = backup.scope != common.scope || part.name != resource.name;
    other.then(|| {
        let what = format!("{} is a backup of {} of {}", backup.id, part.name, backup.scope);
        format!("{what}; roles, settings and secrets of {} stay what they are.", common.scope)
    })
}

/// An instant in a sentence, to the second.
pub fn instant(at: lifeboat_model::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An empty plan.
pub fn new_plan(common: &Common, request: &Request, title: String, lease: Lease) -> Plan {
    Plan {
        schema: PLAN_SCHEMA.to_owned(),
        id: common.ids.plan.clone(),
        request: request.clone(),
        scope: common.scope.clone(),
        lease,
        title,
        made_at: common.now,
        facts: Vec::new(),
        phases: Vec::new(),
        losses: Vec::new(),
        notes: Vec::new(),
    }
}

/// A phase, with its budget from the settings.
pub fn phase(common: &Common, name: &str, expected: Vec<Prediction>, steps: Vec<Step>) -> Phase {
    let budget_ms = common.budgets_ms.get(name).copied();
    Phase { name: name.to_owned(), budget_ms, expected: predict::add(expected), steps }
}

/// A step that changes nothing.
pub fn read(id: impl Into<String>, title: impl Into<String>, action: Action) -> Step {
    step(id, title, StepClass::Read, action, Undo::Nothing)
}

/// A step of any class.
pub fn step(id: impl Into<String>, title: impl Into<String>, class: StepClass, action: Action, undo: Undo) -> Step {
    Step { id: StepId(id.into()), title: title.into(), class, action, undo, on_failure: OnFailure::Unwind, hint: None }
}

/// The undo by an action.
pub fn by(action: Action) -> Undo {
    Undo::By(Box::new(action))
}

/// Checks that a file system has room.
pub fn space(id: &str, path: PathBuf, bytes: u64) -> Step {
    let title = format!("{} free on {}", lifeboat_model::time::show_bytes(bytes), path.display());
    read(id, title, Action::CheckSpace { path, bytes })
}

/// How the parts of a backup are captured and stored: for a backup, and at the beginning of every plan that
/// overwrites. `prefix` keeps step names apart when a plan has more than one such series.
pub struct Taking<'a> {
    /// What is known.
    pub common: &'a Common,
    /// In front of step names.
    pub prefix: &'a str,
    /// The new backup's name.
    pub backup: BackupId,
    /// Why.
    pub reason: BackupReason,
    /// What the person called it.
    pub label: Option<String>,
    /// What is taken.
    pub sources: &'a [Live],
    /// A file of some time ago that is taken in place of what is live.
    pub instead: Option<Instead<'a>>,
}

/// A file that is taken in place of what is live.
pub struct Instead<'a> {
    /// The file.
    pub file: &'a std::path::Path,
    /// Up to when it is complete.
    pub as_of: lifeboat_model::Timestamp,
}

impl Taking<'_> {
    fn id(&self, verb: &str, resource: &Resource) -> StepId {
        StepId(format!("{}{verb}.{}", self.prefix, resource.name))
    }

    fn staged(&self, resource: &Resource) -> PathBuf {
        self.common.staging.join(format!("{}{}.sqlite", self.prefix, resource.name))
    }

    /// Whether a database is copied before it is stored. One in WAL mode is read where it is, as long as that is over soon:
    /// while it is read its WAL grows. A vault on the network may take its time.
    fn is_copied(&self, live: &Live) -> bool {
        let near = self.common.vault_folder.is_some() && live.bytes <= IN_PLACE_BYTES_MAX;
        let in_place = live.wal && near && self.instead.is_none();
        matches!(live.resource.kind, ResourceKind::Sqlite { .. }) && !in_place
    }

    /// Copies what has to be copied before it can be read in peace.
    pub fn capture(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for live in self.sources.iter().filter(|live| self.is_copied(live)) {
            if let ResourceKind::Sqlite { path } = &live.resource.kind {
                let into = self.staged(&live.resource);
                let undo = by(Action::Remove { paths: vec![into.clone()] });
                let (source, as_of, how) = match &self.instead {
                    Some(instead) => (instead.file.to_owned(), Some(instead.as_of), ""),
                    None => (path.clone(), None, " while it is in use"),
                };
                let title = format!("copy {}{how}", source.display());
                let action = Action::CaptureSqlite { source, into, as_of };
                steps.push(step(self.id("capture", &live.resource).0, title, StepClass::Idempotent, action, undo));
            }
        }
        steps
    }

    /// Stores them, and looks that they are there.
    pub fn store(&self) -> Vec<Step> {
        let (vault, backup) = (self.common.vault.clone(), self.backup.clone());
        let parts = self.sources.iter().map(|live| {
            let resource = live.resource.clone();
            match resource.kind {
                ResourceKind::Sqlite { .. } => Part {
                    staged: Some(self.staged(&resource)),
                    captured_by: self.is_copied(live).then(|| self.id("capture", &resource)),
                    inspected_by: None,
                    accept_unsound: self.reason == BackupReason::Emergency,
                    foreign: None,
                    leave_out: None,
                    resource,
                },
                ResourceKind::Files { .. } | ResourceKind::Env { .. } | ResourceKind::Postgres { .. } => {
                    let leave_out = Some(live.leave_out.clone()).filter(|_| live.resource.kind.path().is_none());
                    let (staged, captured_by, inspected_by, foreign) = (None, None, None, None);
                    Part { resource, staged, captured_by, inspected_by, accept_unsound: false, foreign, leave_out }
                }
            }
        });
        let undo = by(Action::DropBackup { vault: vault.clone(), backup: backup.clone() });
        let action = Action::StoreBackup {
            backup: backup.clone(),
            vault: vault.clone(),
            reason: self.reason,
            label: self.label.clone(),
            parts: parts.collect(),
            // What is deployed now says nothing about a file from before.
            deploy: if self.instead.is_some() { None } else { self.common.deploy.clone() },
        };
        let databases = self.sources.iter().any(|live| matches!(live.resource.kind, ResourceKind::Sqlite { .. }));
        let check = if databases { "check, " } else { "" };
        let how = match self.sources.iter().map(Live::again_bytes).sum() {
            0 => "chunk, compress, encrypt".to_owned(),
            again => format!("read {}, take over {}", show_bytes(self.read_bytes()), show_bytes(again)),
        };
        let title = format!("store as {backup}: {check}{how}");
        let check = format!("read back that {backup} is whole");
        vec![
            step(format!("{}store", self.prefix), title, StepClass::ProbeFirst, action, undo),
            read(format!("{}verify-stored", self.prefix), check, Action::VerifyStored { vault, backup }),
        ]
    }

    /// Removes what only lay there on its way.
    pub fn clean(&self) -> Step {
        let action = Action::Remove { paths: vec![self.common.staging.clone()] };
        step(format!("{}clean", self.prefix), "remove working copies", StepClass::Idempotent, action, Undo::Nothing)
    }

    /// All bytes of the sources.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|live| live.bytes).sum()
    }

    /// Those of them that are read: the others are taken over from an earlier backup.
    pub fn read_bytes(&self) -> u64 {
        self.sources.iter().map(Live::read_bytes).sum()
    }

    /// Bytes that must be copied before they are stored.
    pub fn staged_bytes(&self) -> u64 {
        self.sources.iter().filter(|live| self.is_copied(live)).map(|live| live.bytes).sum()
    }

    /// How long capturing will take.
    pub fn predict_capture(&self) -> Vec<Prediction> {
        let one = |live: &Live| {
            let subject = live.resource.kind.place();
            self.common.predict("capture", &subject, live.bytes, guess::CAPTURE)
        };
        self.sources.iter().filter(|live| self.is_copied(live)).map(one).collect()
    }

    /// How long storing and reading back will take.
    pub fn predict_store(&self) -> Vec<Prediction> {
        let vault = &self.common.vault;
        vec![
            self.common.predict("store", vault, self.read_bytes(), guess::STORE),
            self.common.predict("verify-stored", vault, self.bytes(), guess::VERIFY),
        ]
    }
}
