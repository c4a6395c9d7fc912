//! What a machine sees of the points that belong to a rollback: in its journal, the outbox and the world.

use lifeboat_io::{Stop, database::postgres::Session, files};
use lifeboat_model::{
    Action, BackupReason, Failure, FailureKind, Operation, OperationState, PgAction, Request, ResourceKind, Step,
    StepState, TargetAction, Tri, VersionAsk,
    checklist::{Audience, Look},
    message::{Message, Occasion, Way},
    time::{show_bytes, show_duration, since},
};

use crate::{Engine, ways::rolling::leads_to};

impl Engine {
    /// What a machine sees of a point; nothing where it has nothing to look at.
    pub(super) fn seen(&self, look: Look, operation: &Operation) -> Option<(Tri, String)> {
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
            Look::Told => self.told(Occasion::RollbackBegun, operation, &|_any| true),
            Look::ToldOver => self.told(Occasion::RollbackOver, operation, &|_any| true),
            Look::Announced(audience) => self.told(Occasion::RollbackBegun, operation, &|one| is_of(audience, one)),
            Look::AnnouncedOver(audience) => self.told(Occasion::RollbackOver, operation, &|one| is_of(audience, one)),
            Look::Switched => target(|action| matches!(action, TargetAction::Switch { .. })),
            Look::Timed => timed(operation),
            // They belong to something else than an operation.
            Look::Rehearsal(_) | Look::NextDue | Look::Ready | Look::Reviewed => None,
            Look::TriedSince | Look::Within(_) => None,
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
            Look::Verified => {
                let compared = pg(|action| matches!(action, PgAction::Check { .. }));
                match (compared, self.back_to_baseline(operation)) {
                    (Some((one, what)), Some((other, more))) => {
                        Some((Tri::worst([one, other]), format!("{what}; {more}")))
                    }
                    (one, other) => one.or(other),
                }
            }
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

    /// Whether what was measured of the release that a rollback led to is what it was again; nothing where nothing was measured.
    fn back_to_baseline(&self, operation: &Operation) -> Option<(Tri, String)> {
        let release = leads_to(&operation.plan)?;
        let (_, compared) = self.against_baseline(Some(&release), &Stop::default()).ok()?;
        // What is measured over some minutes still tells of the version that was taken back, until they have passed.
        let window = compared.iter().filter_map(|one| one.before.window).max().unwrap_or_default();
        let passed = since(operation.last_at, self.io.clock.now());
        if passed < window {
            let wait = show_duration(window.saturating_sub(passed));
            return Some((Tri::Unknown, format!("what is measured still tells of before: look again in {wait}")));
        }
        let worst = Tri::worst(compared.iter().map(|one| one.back));
        let told = compared.iter().map(|one| match one.back {
            Tri::Pass => format!("{} is back where it was", one.key),
            Tri::Fail | Tri::Unknown => one.why.clone(),
        });
        Some((worst, told.collect::<Vec<_>>().join("; ")))
    }

    fn told(
        &self,
        occasion: Occasion,
        operation: &Operation,
        whom: &dyn Fn(&Message) -> bool,
    ) -> Option<(Tri, String)> {
        let all = match self.messages() {
            Ok(all) => all,
            Err(failure) => return Some((Tri::Unknown, failure.to_string())),
        };
        let of: Vec<_> = all
            .iter()
            .filter(|one| one.operation.as_ref() == Some(&operation.id) && one.notice.occasion == occasion)
            .filter(|one| whom(one))
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
            Ok(backups) => match backups.last() {
                Some(newest) => newest.bytes,
                None => return Some((Tri::Unknown, "no backup says yet how much room is wanted".to_owned())),
            },
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
    show_duration(operation.elapsed())
}

/// Whether a message goes to this audience. Who is on call is told by a channel whose name says so.
fn is_of(audience: Audience, message: &Message) -> bool {
    let name = message.channel.name.to_lowercase().replace(['-', '_', ' '], "");
    match (audience, name.contains("oncall")) {
        (Audience::OnCall, is_on_call) => is_on_call,
        (_, true) => false,
        (Audience::Chat, false) => matches!(message.channel.way, Way::Webhook),
        (Audience::Mail, false) => matches!(message.channel.way, Way::Mail { .. }),
        (Audience::StatusPage, false) => matches!(message.channel.way, Way::File { .. }),
    }
}

/// Whether each phase has its time, of an operation that is over.
fn timed(operation: &Operation) -> Option<(Tri, String)> {
    if operation.state != OperationState::Done {
        return Some((Tri::Fail, "it did not come to its end".to_owned()));
    }
    let mut states = operation.steps.iter();
    let phases = operation.plan.phases.iter().map(|phase| {
        let own = states.by_ref().take(phase.steps.len());
        let ms: u64 = own.map(|state| if let StepState::Done { took_ms, .. } = state { *took_ms } else { 0 }).sum();
        format!("{} {:.1} s", phase.name, ms as f64 / 1_000.0)
    });
    Some((Tri::Pass, phases.collect::<Vec<_>>().join(", ")))
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
