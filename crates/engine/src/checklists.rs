//! The checklists of a rollback as they stand: looked up in the journal of the operation and in the world, or attested by a person.
//! State belongs to an operation; nothing is ticked beforehand, and what nobody knows has not passed.

use lifeboat_io::{Stop, database::postgres::Session, files};
use lifeboat_model::{
    Action, BackupReason, Failure, FailureKind, Operation, OperationId, OperationState, PgAction, Request,
    ResourceKind, Step, StepState, TargetAction, Tri, VersionAsk,
    checklist::{How, Item, LISTS, List, Look, list},
    message::Occasion,
    time::{show_bytes, show_duration, since},
};
use serde::Serialize;

use crate::Engine;

/// A point as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticked {
    /// Its key.
    pub key: &'static str,
    /// What it says.
    pub title: &'static str,
    /// Whether it stands.
    pub outcome: Tri,
    /// By what, or why not.
    pub detail: String,
    /// Who attested it, when somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A list as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its key.
    pub key: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// The operation it belongs to.
    pub operation: OperationId,
    /// Its points.
    pub items: Vec<Ticked>,
}

impl Checked {
    /// Whether the gate is open: every point stands.
    pub fn outcome(&self) -> Tri {
        Tri::worst(self.items.iter().map(|item| item.outcome))
    }

    /// For the incident, as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {} checklist of {}\n\n", self.title, self.operation);
        for item in &self.items {
            let (box_, word) = match item.outcome {
                Tri::Pass => ("[x]", "yes"),
                Tri::Fail => ("[ ]", "NO"),
                Tri::Unknown => ("[ ]", "not known"),
            };
            let by = item.by.as_ref().map_or_else(String::new, |by| format!(", attested by {by}"));
            text += &format!("- {box_} {}: {word} ({}{by})\n", item.title, item.detail);
        }
        text
    }
}

impl Engine {
    /// The newest rollback, or the operation that is named.
    ///
    /// # Errors
    /// There is none.
    pub fn checked_operation(&self, named: Option<&OperationId>) -> Result<Operation, Failure> {
        if let Some(id) = named {
            return self.look().operation(id);
        }
        let scope = self.setup().scope.to_string();
        let rows = self.look().operations(usize::MAX)?;
        let newest = rows.iter().find(|row| row.scope == scope && row.kind == "rollback");
        let newest = newest.ok_or_else(|| {
            Failure::new(FailureKind::Refused, "nothing was rolled back here yet, so there is nothing to tick")
                .hint("lifeboat rollback --dry-run; or name an operation: --operation ID")
        })?;
        self.look().operation(&newest.id)
    }

    /// A list as it stands for an operation.
    ///
    /// # Errors
    /// There is no such list; the journals cannot be read.
    pub fn checklist(&self, key: &str, operation: &Operation) -> Result<Checked, Failure> {
        let list = known(key)?;
        let items = list.items.iter().map(|item| self.ticked(list, item, operation)).collect::<Result<_, Failure>>()?;
        Ok(Checked { key: list.key, title: list.title, operation: operation.id.clone(), items })
    }

    /// Under which name a person's word for a point goes on record.
    ///
    /// # Errors
    /// There is no such list or point; a machine has seen that it does not stand, and no word makes it stand.
    pub fn checklist_about(&self, key: &str, point: &str, operation: &Operation) -> Result<String, Failure> {
        let list = known(key)?;
        let Some(item) = list.items.iter().find(|item| item.key == point) else {
            let keys: Vec<&str> = list.items.iter().map(|item| item.key).collect();
            let failure = Failure::new(FailureKind::Usage, format!("{key} has no point {point}"));
            return Err(failure.hint(format!("it has: {}", keys.join(", "))));
        };
        if let How::Machine(look) = item.how
            && let Some((Tri::Fail, why)) = self.seen(look, operation)
        {
            let message = format!("{point} was looked at and does not stand; nobody's word makes it stand");
            return Err(Failure::new(FailureKind::Refused, message).because(why));
        }
        Ok(about(list, item, operation))
    }

    fn ticked(&self, list: &List, item: &Item, operation: &Operation) -> Result<Ticked, Failure> {
        let seen = match item.how {
            How::Machine(look) => self.seen(look, operation),
            How::Person => None,
        };
        let (outcome, detail, by) = match seen {
            Some((outcome @ (Tri::Pass | Tri::Fail), detail)) => (outcome, detail, None),
            not_known => match self.word_for(&about(list, item, operation))? {
                Some((by, detail)) => (Tri::Pass, detail, Some(by)),
                None => {
                    let attest = format!("lifeboat checklist attest {} {} --note 'WHAT YOU SAW'", list.key, item.key);
                    let why = not_known.map(|(_, why)| format!("{why}; ")).unwrap_or_default();
                    (Tri::Unknown, format!("{why}{attest}"), None)
                }
            },
        };
        Ok(Ticked { key: item.key, title: item.title, outcome, detail, by })
    }

    /// Who attested something, and what they said.
    fn word_for(&self, about: &str) -> Result<Option<(String, String)>, Failure> {
        let scope = self.setup().scope.to_string();
        for row in self.look().operations(usize::MAX)? {
            if row.kind != "attest" || row.scope != scope || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if let (Request::Attest { about: said, note, .. }, OperationState::Done) =
                (&operation.plan.request, &operation.state)
                && said == about
            {
                let at = operation.started_at.strftime("%Y-%m-%d %H:%M UTC");
                return Ok(Some((operation.by.clone(), format!("{note}, {at}"))));
            }
        }
        Ok(None)
    }

    /// What a machine sees of a point; nothing where it has nothing to look at.
    fn seen(&self, look: Look, operation: &Operation) -> Option<(Tri, String)> {
        let done = |is_it: &dyn Fn(&Step) -> bool| steps(operation, is_it);
        let pg = |is_it: fn(&PgAction) -> bool| {
            steps(operation, &|step| matches!(&step.action, Action::Postgres(action) if is_it(action)))
        };
        let target = |is_it: fn(&TargetAction) -> bool| {
            steps(operation, &|step| matches!(&step.action, Action::Target { action, .. } if is_it(action)))
        };
        let no_data = || {
            let touches = operation.plan.steps().any(|step| matches!(step.action, Action::Postgres(_)));
            (!touches).then(|| (Tri::Pass, "no data is touched".to_owned()))
        };
        match look {
            Look::BackupIsWhole => {
                let by_scripts = pg(|action| matches!(action, PgAction::Revert { .. }));
                done(&|step| matches!(step.action, Action::CheckBackup { .. }))
                    .or_else(no_data)
                    .or_else(|| by_scripts.map(|_| (Tri::Pass, "no backup is used: DOWN scripts lead back".to_owned())))
            }
            Look::EmergencyBackup => {
                let is_it =
                    |step: &Step| matches!(step.action, Action::StoreBackup { reason: BackupReason::Emergency, .. });
                done(&is_it).or_else(no_data)
            }
            Look::Stopped => {
                let stopped = |step: &Step| match &step.action {
                    Action::Target { action: TargetAction::Stop, .. } => true,
                    Action::Target { action: TargetAction::Run { .. }, .. } => step.id.to_string().starts_with("stop"),
                    Action::Postgres(PgAction::Fence { on, brief, .. }) => *on && !*brief,
                    _other => false,
                };
                done(&stopped)
            }
            Look::Told => self.told(Occasion::RollbackBegun, operation),
            Look::ToldOver => self.told(Occasion::RollbackOver, operation),
            Look::Rehearsed => self.rehearsed(operation).or_else(no_data),
            Look::Access => pg(|action| matches!(action, PgAction::CheckSource { .. })).or_else(no_data),
            Look::Room => self.room(),
            Look::Timeline => {
                let began = operation.started_at.strftime("%Y-%m-%d %H:%M:%S UTC");
                let expected = operation.plan.notes.iter().find(|note| note.starts_with("Expected: "));
                let expected = expected.map_or("it was not known how long it takes", String::as_str);
                Some((Tri::Pass, format!("begun {began}; {expected}")))
            }
            Look::Restored => pg(|action| {
                matches!(action, PgAction::Swap { .. } | PgAction::SwapSchemas { .. } | PgAction::Revert { .. })
            }),
            Look::Migrations => self.migrations_are_those(operation),
            Look::Compared => pg(|action| matches!(action, PgAction::Check { .. })),
            Look::Log => target(|action| matches!(action, TargetAction::ScanLog { .. })),
            Look::Connection => self.connection(),
            Look::Version => target(|action| matches!(action, TargetAction::NewInstance { .. })),
            Look::Path(name) => done(&|step| match &step.action {
                Action::Target { action: TargetAction::Probe { paths, .. }, .. } => {
                    paths.iter().any(|path| path.contains(name))
                }
                _other => false,
            }),
            Look::Probes => target(|action| matches!(action, TargetAction::Probe { .. })),
            Look::Done => Some(match &operation.state {
                OperationState::Done => (Tri::Pass, format!("in {}", took(operation))),
                OperationState::PutBack { .. } => (Tri::Fail, "everything was put back".to_owned()),
                OperationState::HandedOver { .. } => (Tri::Fail, "it was left to what came after it".to_owned()),
                OperationState::Running | OperationState::TurningBack { .. } | OperationState::Paused { .. } => {
                    (Tri::Fail, "it is not over: lifeboat status".to_owned())
                }
            }),
            Look::IncidentLog => {
                let log = self.setup().incident_log.as_ref()?;
                Some(match files::read_text(log) {
                    Ok(text) => (Tri::from_bool(text.contains(&operation.id.to_string())), log.display().to_string()),
                    Err(error) if files::exists(log) => {
                        let why = Failure::from_error(FailureKind::Outside, &error);
                        (Tri::Unknown, why.to_string())
                    }
                    Err(_) => (Tri::Fail, format!("{} is not there", log.display())),
                })
            }
        }
    }

    fn told(&self, occasion: Occasion, operation: &Operation) -> Option<(Tri, String)> {
        let all = match self.messages() {
            Ok(all) => all,
            Err(failure) => return Some((Tri::Unknown, failure.to_string())),
        };
        let of: Vec<_> = all
            .iter()
            .filter(|one| one.operation.as_ref() == Some(&operation.id) && one.notice.occasion == occasion)
            .collect();
        if of.is_empty() {
            return None;
        }
        let waiting: Vec<&str> =
            of.iter().filter(|one| one.sent_at.is_none()).map(|one| one.channel.name.as_str()).collect();
        Some(match waiting.is_empty() {
            true => (Tri::Pass, format!("{} of {} delivered", of.len(), of.len())),
            false => (Tri::Fail, format!("not delivered yet: {}", waiting.join(", "))),
        })
    }

    /// Whether the backup that is gone back to was restored in a proof.
    fn rehearsed(&self, operation: &Operation) -> Option<(Tri, String)> {
        let wanted = operation.plan.steps().find_map(|step| match &step.action {
            Action::Postgres(PgAction::Fill { backup, .. }) | Action::CheckBackup { backup, .. } => {
                Some(backup.clone())
            }
            _other => None,
        })?;
        let backups = match self.backups() {
            Ok(backups) => backups,
            Err(failure) => return Some((Tri::Unknown, failure.to_string())),
        };
        let known = backups.iter().find(|one| one.id == wanted)?;
        let at = known.proven_at?;
        Some((Tri::Pass, format!("{wanted} was proven {}", at.strftime("%Y-%m-%d %H:%M UTC"))))
    }

    fn room(&self) -> Option<(Tri, String)> {
        let newest = match self.backups() {
            Ok(backups) => backups.last().map_or(0, |backup| backup.bytes),
            Err(failure) => return Some((Tri::Unknown, failure.to_string())),
        };
        let free = match files::free_bytes(self.state.root()) {
            Ok(free) => free,
            Err(error) => return Some((Tri::Unknown, error.to_string())),
        };
        let said = format!("{} free, the newest backup has {}", show_bytes(free), show_bytes(newest));
        Some((Tri::from_bool(free >= newest.saturating_mul(2)), said))
    }

    /// Whether ledgers say what the release had.
    fn migrations_are_those(&self, operation: &Operation) -> Option<(Tri, String)> {
        let Request::Version { about: VersionAsk::RollBack { .. } } = &operation.plan.request else { return None };
        let releases = match self.releases() {
            Ok(releases) => releases,
            Err(failure) => return Some((Tri::Unknown, failure.to_string())),
        };
        let live = releases.iter().find(|one| one.is_live)?;
        let (name, wanted) = live.release.databases.iter().next()?;
        Some(match self.applied(name) {
            Ok(applied) if applied.versions == wanted.applied => {
                (Tri::Pass, format!("{name} has those of {}", live.release.shown()))
            }
            Ok(applied) => {
                let more = applied.versions.iter().filter(|version| !wanted.applied.contains(version));
                let more: Vec<&str> = more.map(String::as_str).collect();
                (Tri::Fail, format!("{name} differs from {}: {}", live.release.shown(), more.join(", ")))
            }
            Err(failure) => (Tri::Unknown, failure.to_string()),
        })
    }

    /// Whether the databases of the settings can be asked, under the names that they have there.
    fn connection(&self) -> Option<(Tri, String)> {
        let mut names = Vec::new();
        for resource in &self.setup().resources {
            let ResourceKind::Postgres { url, .. } = &resource.kind else { continue };
            let address = match self.vaults.database(url) {
                Ok(address) => address,
                Err(failure) => return Some((Tri::Unknown, failure.to_string())),
            };
            if let Err(error) = Session::open(&address, &Stop::default()) {
                return Some((Tri::Fail, format!("{}: {error}", resource.name)));
            }
            names.push(format!("{} is {address}", resource.name));
        }
        (!names.is_empty()).then(|| (Tri::Pass, names.join(", ")))
    }
}

fn took(operation: &Operation) -> String {
    show_duration(since(operation.started_at, operation.last_at))
}

fn known(key: &str) -> Result<&'static List, Failure> {
    list(key).ok_or_else(|| {
        let keys: Vec<&str> = LISTS.iter().map(|list| list.key).collect();
        let failure = Failure::new(FailureKind::Usage, format!("there is no checklist {key}"));
        failure.hint(format!("there are: {}", keys.join(", ")))
    })
}

fn about(list: &List, item: &Item, operation: &Operation) -> String {
    format!("checklist.{}.{}.{}", list.key, item.key, operation.id)
}

/// What the journal says of such steps; nothing when there are none. One that has not been done has not passed.
fn steps(operation: &Operation, is_it: &dyn Fn(&Step) -> bool) -> Option<(Tri, String)> {
    let all = operation.plan.steps().zip(&operation.steps).filter(|(step, _)| is_it(step));
    let told = all.map(|(step, state)| match state {
        StepState::Done { .. } => (Tri::Pass, step.title.clone()),
        StepState::Planned | StepState::Running => (Tri::Unknown, format!("not done yet: {}", step.title)),
        StepState::Failed { .. } => (Tri::Fail, format!("failed: {}", step.title)),
        StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => {
            (Tri::Fail, format!("taken back: {}", step.title))
        }
    });
    let told: Vec<(Tri, String)> = told.collect();
    let worst = told.iter().max_by_key(|(outcome, _)| *outcome)?;
    Some(worst.clone())
}
