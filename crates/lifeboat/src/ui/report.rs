//! What is said after an operation: how it ended, how long each part took, where things are kept, how to undo it.

use lifeboat_engine::{
    Engine, drills,
    rehearsals::{self, Rehearsal},
};
use lifeboat_model::{
    Action, BackupId, ExitCode, Failure, FailureKind, LossLine, Operation, OperationState, PgAction, PlatformAsk,
    Profile, Proof, RedeployAction, Request, StepState, TargetAction, Tri, VersionAsk, advice, predict, sync::SyncAsk,
    time::show_bytes,
};
use serde_json::{Value, json};

use super::{Paint, table::Table, words};

/// The schema tag of an operation as JSON.
pub const OPERATION_SCHEMA: &str = "lifeboat/operation@1";

/// How long a phase took, against what was expected.
struct PhaseTime<'a> {
    phase: &'a lifeboat_model::Phase,
    took_ms: u64,
}

/// A backup that an operation stored.
struct Stored {
    id: BackupId,
    bytes: u64,
    bytes_added: u64,
}

/// What the process ends with after this operation.
pub fn exit_of(operation: &Operation) -> ExitCode {
    match &operation.state {
        OperationState::Done => exit_of_done(operation),
        OperationState::PutBack { .. } => ExitCode::FailedUndone,
        OperationState::HandedOver { .. } => ExitCode::InBetween,
        OperationState::Paused { why } if why.kind == FailureKind::Interrupted && !operation.past_pivot => {
            ExitCode::Interrupted
        }
        OperationState::Paused { .. } | OperationState::TurningBack { .. } | OperationState::Running => {
            ExitCode::InBetween
        }
    }
}

fn exit_of_done(operation: &Operation) -> ExitCode {
    if held(operation).next().is_some() {
        return ExitCode::InBetween;
    }
    let proofs = Engine::proofs_of(operation);
    let is_proof = matches!(operation.plan.request, Request::Prove { .. });
    match Tri::worst(proofs.iter().map(|proof| proof.outcome)) {
        Tri::Fail => ExitCode::Damaged,
        Tri::Unknown if is_proof => ExitCode::Unknown,
        Tri::Unknown | Tri::Pass if operation.over_budget.is_empty() && !is_over_max(operation) => {
            match rehearsals::of(operation).is_none_or(|rehearsal| rehearsal.outcome == Tri::Pass) {
                true => ExitCode::Ok,
                false => ExitCode::ActionAdvised,
            }
        }
        Tri::Unknown | Tri::Pass => ExitCode::OverBudget,
    }
}

fn is_deploy(operation: &Operation) -> bool {
    matches!(operation.plan.request, Request::Version { about: VersionAsk::Deploy(_) })
}

/// Whether somebody else's platform did the work, which nobody here can take back.
fn is_workflow(operation: &Operation) -> bool {
    let Request::Version { about: VersionAsk::Platform(ask) } = &operation.plan.request else { return false };
    matches!(**ask, PlatformAsk::Workflow { .. })
}

/// What a deploy or a workflow found that did not do, and left as it is for a person.
fn held(operation: &Operation) -> impl Iterator<Item = &Failure> {
    let is_meant = is_deploy(operation) || is_workflow(operation);
    operation.steps.iter().filter(move |_| is_meant).filter_map(|state| match state {
        StepState::Failed { failure, .. } => Some(failure),
        _other => None,
    })
}

/// How it ended, in one word.
pub fn outcome(operation: &Operation) -> &'static str {
    match &operation.state {
        OperationState::Done => "done",
        OperationState::PutBack { .. } => "put-back",
        OperationState::HandedOver { .. } => "handed-over",
        OperationState::Paused { .. } => "paused",
        OperationState::TurningBack { .. } => "turning-back",
        OperationState::Running => "running",
    }
}

/// Why it did not end well, when it did not.
pub fn why(operation: &Operation) -> Option<&Failure> {
    match &operation.state {
        OperationState::Done | OperationState::Running => None,
        OperationState::PutBack { why } => why.as_ref(),
        OperationState::Paused { why } | OperationState::HandedOver { why } => Some(why),
        // What keeps it from being put back matters more than why it turned back.
        OperationState::TurningBack { why } => Some(stuck(operation).unwrap_or(why)),
    }
}

fn stuck(operation: &Operation) -> Option<&Failure> {
    operation.steps.iter().find_map(|state| match state {
        StepState::Stuck { failure } => Some(failure),
        StepState::Planned | StepState::Running | StepState::Done { .. } => None,
        StepState::Failed { .. } | StepState::Undoing | StepState::Undone => None,
    })
}

/// What is said on standard output after an operation that was carried to its end.
pub fn show(operation: &Operation, again: &str, paint: Paint) -> String {
    let (id, elapsed) = (&operation.id, words::took(elapsed_ms(operation)));
    let how = if held(operation).next().is_some() { paint.bad("Held:") } else { paint.good("Done:") };
    let mut text = format!("{how} {} (operation {id}, {elapsed}).\n", operation.plan.title);
    for (phase, over_ms) in &operation.over_budget {
        text += &format!(
            "{} phase {phase} took {} more than its budget.\n",
            paint.doubtful("Over budget:"),
            words::took(*over_ms)
        );
    }
    if is_over_max(operation) {
        text += &format!("{} all of it took {elapsed}.\n", paint.doubtful("Over budget:"));
    }
    text += &times(operation);
    if let Some(rehearsal) = rehearsals::of(operation) {
        text += &show_rehearsal(&rehearsal);
    }
    for failure in held(operation) {
        text += &format!("{} {}\n", paint.bad("Not good:"), words::sentence(&failure.to_string()));
    }
    if held(operation).next().is_some() && is_workflow(operation) {
        text += &format!("What the run did stays. A person decides: lifeboat rollback --dry-run{again}\n");
    } else if held(operation).next().is_some() {
        text +=
            &format!("It stays as it is and is held for bad. A person decides: lifeboat rollback --dry-run{again}\n");
    }
    for proof in Engine::proofs_of(operation) {
        text += &show_proof(&proof, paint);
    }
    for stored in stored(operation) {
        let Stored { id, bytes, bytes_added } = stored;
        let is_backup = matches!(operation.plan.request, Request::Backup { .. } | Request::Adopt { .. });
        let what = if is_backup { "Backup" } else { "What was there is in emergency backup" };
        text += &format!("{what} {id}: {}, {} added to the vault.\n", show_bytes(bytes), show_bytes(bytes_added));
        if is_backup {
            text += &format!("Prove it: lifeboat prove {id}{again}\n");
        }
    }
    if let Some(lost) = lost(operation) {
        text += &show_lost(lost);
    }
    for kept in kept(operation) {
        text += &format!("The former file is kept as {kept}\n");
    }
    if let Some(undo) = undo(operation) {
        text += &format!("Take it back: {undo}{again}\n");
    }
    if !kept(operation).is_empty() {
        text += &format!("Delete what is kept, once you are sure: lifeboat release {id}{again}\n");
    }
    text
}

/// What was lost in all, in one line; nothing when nothing was.
fn show_lost(lost: &Value) -> String {
    let lines: Vec<LossLine> = serde_json::from_value(lost.clone()).unwrap_or_default();
    let sum = |pick: fn(&LossLine) -> Option<u64>| lines.iter().filter_map(pick).sum::<u64>();
    let (created, changed) = (sum(|line| line.created), sum(|line| line.changed));
    let deleted = sum(|line| line.deleted);
    if created + changed + deleted == 0 {
        return String::new();
    }
    format!("Against what was there: {created} rows created since left, {changed} changed back, {deleted} came back.\n")
}

/// Durations of phases beside what was expected of them.
fn times(operation: &Operation) -> String {
    let has_budgets = operation.plan.phases.iter().any(|phase| phase.budget_ms.is_some());
    let last = if has_budgets { "BUDGET" } else { "" };
    let mut table = Table::new(&["PHASE", "TOOK", "EXPECTED", last]).right(&[1, 2, 3]);
    for PhaseTime { phase, took_ms } in phase_times(operation) {
        let expected = phase.expected.as_ref().map(words::expected).unwrap_or_default();
        let budget = phase.budget_ms.map(words::took).unwrap_or_default();
        table.row([phase.name.clone(), words::took(took_ms), expected, budget]);
    }
    if operation.plan.phases.len() < 2 { String::new() } else { table.render("  ") }
}

fn phase_times(operation: &Operation) -> Vec<PhaseTime<'_>> {
    let mut states = operation.steps.iter();
    let time = |phase| PhaseTime { phase, took_ms: states.by_ref().take(phase_len(phase)).map(took_ms).sum() };
    operation.plan.phases.iter().map(time).collect()
}

fn phase_len(phase: &lifeboat_model::Phase) -> usize {
    phase.steps.len()
}

fn took_ms(state: &StepState) -> u64 {
    match state {
        StepState::Done { took_ms, .. } => *took_ms,
        StepState::Planned | StepState::Running | StepState::Failed { .. } => 0,
        StepState::Undoing | StepState::Undone | StepState::Stuck { .. } => 0,
    }
}

/// The points of a rehearsal, for a person.
pub fn show_rehearsal(rehearsal: &Rehearsal) -> String {
    let mut table = Table::new(&["POINT", "STANDS", "WHAT", "WHY"]);
    for point in &rehearsal.points {
        let stands = match point.outcome {
            Tri::Pass => "yes",
            Tri::Unknown => "attest it",
            Tri::Fail => "no",
        };
        table.row([point.key.to_owned(), stands.to_owned(), point.title.to_owned(), words::one_line(&point.detail)]);
    }
    let verdict = match rehearsal.outcome {
        Tri::Pass => "The rehearsal passed",
        Tri::Unknown | Tri::Fail => "The rehearsal did not pass",
    };
    format!("{}{verdict}.\n", table.render("  "))
}

/// One proof for a person: its level, and every check that did not pass.
pub fn show_proof(proof: &Proof, paint: Paint) -> String {
    let level = proof.level.map_or("nothing", |level| level.word());
    let (resource, backup) = (&proof.resource, &proof.backup);
    let spent = format!("restored in {}, checked in {}", words::took(proof.restore_ms), words::took(proof.check_ms));
    let head = match proof.outcome {
        Tri::Pass => format!("{} {resource} in {backup}, up to \"{level}\"; {spent}.\n", paint.good("Proven:")),
        Tri::Fail => format!("{} {resource} in {backup}; it got up to \"{level}\".\n", paint.bad("Not good:")),
        Tri::Unknown => format!("{} {resource} in {backup}; it got up to \"{level}\".\n", paint.doubtful("Not known:")),
    };
    let bad = proof.checks.iter().filter(|(_, check)| check.outcome != Tri::Pass);
    let text = bad.fold(head, |text, (level, check)| {
        let (name, detail) = (words::one_line(&check.name), words::one_line(&check.detail));
        text + &format!("  {} ({}): {name}: {detail}\n", words::tri(check.outcome), level.word())
    });
    text + &show_back_test(proof)
}

/// What was said beforehand about how long it takes, beside what it took, and how good such words were so far.
fn show_back_test(proof: &Proof) -> String {
    let Some(said) = &proof.restore_expected else { return String::new() };
    let off = predict::off_percent(said.p50_ms, proof.restore_ms);
    let beside = match proof.restore_ms.cmp(&said.p50_ms) {
        std::cmp::Ordering::Equal => "as it came".to_owned(),
        std::cmp::Ordering::Greater => format!("it took {off} % more"),
        std::cmp::Ordering::Less => format!("it took {off} % less"),
    };
    let before = said.back_test.map_or(String::new(), |test| {
        format!(
            "; of {} before, {} came within a quarter",
            words::count(test.runs.into(), "prediction", "predictions"),
            test.close
        )
    });
    format!("  restore was predicted to take {}: {beside}{before}.\n", words::expected(said))
}

/// What is said on standard error after an operation that did not reach its end: where it stands, what to type.
pub fn show_trouble(operation: &Operation, again: &str) -> String {
    let id = &operation.id;
    match &operation.state {
        OperationState::Done => String::new(),
        OperationState::PutBack { .. } => format!("Everything was put back as it was (operation {id}).\n"),
        OperationState::HandedOver { .. } => {
            format!("It was left where it stood to what came after it (operation {id}).\n")
        }
        OperationState::Paused { .. } if operation.past_pivot => {
            format!("It is past its point of no return and waits; go on with: lifeboat resume {id}{again}\n")
        }
        OperationState::Paused { .. } | OperationState::Running if is_redeploy(operation) => format!(
            "{}Go on with the one that failed: lifeboat resume {id}{again}\nOr leave it at that: lifeboat abort {id}{again}\n",
            deployed(operation)
        ),
        OperationState::Paused { .. } | OperationState::Running => format!(
            "It stands at a safe point; nothing that is live was changed.\nGo on: lifeboat resume {id}{again}\n\
             Or put back what was done: lifeboat abort {id}{again}\n"
        ),
        OperationState::TurningBack { .. } => format!(
            "It was being put back and could not be; nothing more happens until somebody continues.\n\
             Remove the cause, then: lifeboat resume {id}{again}\n"
        ),
    }
}

fn is_redeploy(operation: &Operation) -> bool {
    let Request::Version { about: VersionAsk::Platform(ask) } = &operation.plan.request else { return false };
    matches!(**ask, PlatformAsk::Redeploy { .. })
}

/// What is deployed by now, and what is not.
fn deployed(operation: &Operation) -> String {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    for (step, state) in operation.plan.steps().zip(&operation.steps) {
        let Action::Target { target, action: TargetAction::Redeploy(action) } = &step.action else { continue };
        let name = match action {
            RedeployAction::Function { function, .. } => format!("{}/{function}", target.name),
            RedeployAction::Again { .. } | RedeployAction::Build { .. } => target.name.to_string(),
        };
        if matches!(state, StepState::Done { .. }) { done.push(name) } else { open.push(name) }
    }
    let shown = |names: Vec<String>| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!("Deployed: {}. Not deployed: {}.\n", shown(done), shown(open))
}

/// The command that takes an operation back, where there is one.
pub fn undo(operation: &Operation) -> Option<String> {
    let undoable = match &operation.plan.request {
        Request::Restore { .. } | Request::Undo { .. } | Request::Backup { .. } => true,
        Request::Adopt { .. } | Request::BringBack { .. } | Request::RestoreTable { .. } => true,
        Request::Policy { .. } => true,
        Request::Level { .. } => !operation.past_pivot || !kept(operation).is_empty(),
        Request::Version { about } => {
            let takes_out = matches!(about, VersionAsk::Platform(ask) if matches!(**ask, PlatformAsk::TakeOut { .. }));
            let is_kind = takes_out || matches!(about, VersionAsk::RollBack { .. } | VersionAsk::Env(_));
            is_kind && !operation.past_pivot
        }
        Request::Export { .. } | Request::Copy { .. } | Request::Send { .. } => false,
        Request::Compromise { .. } | Request::Attest { .. } | Request::Fence { .. } | Request::Decide { .. } => false,
        Request::Incident { .. } | Request::Sync { .. } | Request::Maintenance { .. } => false,
        Request::Provider { .. } | Request::Drill { .. } => false,
        Request::Feature { .. } => true,
        Request::Retention => !operation.steps.is_empty(),
        Request::Mark { mark, .. } => {
            use lifeboat_model::BackupMark as M;
            matches!(mark, M::Hold { .. } | M::Suspect { .. })
        }
        Request::Prove { .. } | Request::Shadow { .. } | Request::Prune | Request::Release { .. } => false,
    };
    (undoable && operation.state == OperationState::Done).then(|| format!("lifeboat undo {}", operation.id))
}

fn stored(operation: &Operation) -> Vec<Stored> {
    let steps = operation.plan.steps().filter_map(|step| match &step.action {
        Action::StoreBackup { backup, .. } => Some((backup, operation.output(&step.id)?)),
        _other => None,
    });
    let number = |output: &Value, name: &str| output.get(name).and_then(Value::as_u64).unwrap_or(0);
    steps
        .map(|(id, output)| Stored {
            id: id.clone(),
            bytes: number(output, "bytes"),
            bytes_added: number(output, "bytes_added"),
        })
        .collect()
}

fn kept(operation: &Operation) -> Vec<String> {
    let steps = operation.plan.steps().filter_map(|step| match &step.action {
        Action::SetAside { kept, .. } => operation.output(&step.id).map(|_| kept.display().to_string()),
        _other => None,
    });
    steps.collect()
}

/// From its first line to its last.
pub fn elapsed_ms(operation: &Operation) -> u64 {
    operation.elapsed_ms
}

/// An operation for a program.
pub fn document(operation: &Operation) -> Value {
    let phases = phase_times(operation).into_iter().map(|PhaseTime { phase, took_ms }| {
        json!({ "name": phase.name, "took_ms": took_ms, "budget_ms": phase.budget_ms, "expected": phase.expected })
    });
    let stored = stored(operation)
        .into_iter()
        .map(|stored| json!({ "id": stored.id, "bytes": stored.bytes, "bytes_added": stored.bytes_added }));
    json!({
        "id": operation.id,
        "kind": operation.plan.request.word(),
        "title": operation.plan.title,
        "scope": operation.plan.scope.to_string(),
        "plan": operation.plan.id,
        "request": operation.plan.request,
        "by": operation.by,
        "host": operation.host,
        "started_at": operation.started_at,
        "ended_at": operation.last_at,
        "elapsed_ms": elapsed_ms(operation),
        "outcome": outcome(operation),
        "why": why(operation),
        "exit_code": exit_of(operation) as u8,
        "past_point_of_no_return": operation.past_pivot,
        "phases": phases.collect::<Vec<_>>(),
        "over_budget": operation.over_budget,
        "source": source(operation),
        "backups": stored.collect::<Vec<_>>(),
        "kept": kept(operation),
        "losses": operation.plan.losses,
        "lost": lost(operation),
        "proofs": Engine::proofs_of(operation),
        "checks": checks(operation),
        "undo": undo(operation),
        "level": level(operation),
        "rollback": rollback(operation),
        "rehearsal": rehearsals::of(operation),
        "drill": drills::of(operation),
        "held": held(operation).collect::<Vec<_>>(),
    })
}

/// By which way a rollback went back, and whether the whole was within its limits.
fn rollback(operation: &Operation) -> Option<Value> {
    let profile = Profile::of(&operation.plan)?;
    let (target_s, max_s) = profile.limits_s();
    let elapsed_s = elapsed_ms(operation) as f64 / 1_000.0;
    Some(json!({
        "profile": profile.word(), "target_s": target_s, "max_s": max_s, "elapsed_s": elapsed_s,
        "whole": profile.judge(elapsed_ms(operation)),
    }))
}

/// Whether a rollback took longer than it may.
fn is_over_max(operation: &Operation) -> bool {
    Profile::of(&operation.plan).is_some_and(|profile| profile.judge(elapsed_ms(operation)) == "over-max")
}

/// Which of the emergency levels an operation was, and whether it was within its budget.
fn level(operation: &Operation) -> Option<Value> {
    let level = match &operation.plan.request {
        Request::Sync { about, .. } => match about {
            SyncAsk::Disable { .. } => 1,
            SyncAsk::Clear { .. } => 2,
            SyncAsk::StartOver { .. } => 4,
            _other => return None,
        },
        Request::Level { about, .. } => about.level()?,
        _other => return None,
    };
    let budget_s = advice::budget_ms(level) / 1_000;
    let elapsed_s = elapsed_ms(operation) as f64 / 1_000.0;
    Some(json!({
        "level": level, "budget_s": budget_s, "elapsed_s": elapsed_s, "within": elapsed_s <= budget_s as f64,
    }))
}

/// The backup that an operation reads from.
pub fn source(operation: &Operation) -> Option<&BackupId> {
    operation.plan.steps().find_map(|step| match &step.action {
        Action::Fetch { backup, .. } => Some(backup),
        _other => None,
    })
}

/// What was lost by a swap, table by table, counted row by row just before it; nothing where that was not counted.
fn lost(operation: &Operation) -> Option<&Value> {
    let is_compared = |action: &Action| match action {
        Action::CompareLoss { .. } => true,
        Action::Postgres(action) => {
            matches!(action, PgAction::Salvage { .. } | PgAction::SwapSchemas { .. } | PgAction::ExchangeSchemas { .. })
        }
        _other => false,
    };
    let compared = operation.plan.steps().filter(|step| is_compared(&step.action));
    compared.filter_map(|step| operation.output(&step.id)?.get("lost")).last()
}

/// What was verified before a swap: the record of a restore has to hold it.
fn checks(operation: &Operation) -> Vec<Value> {
    let steps = operation.plan.steps().filter(|step| matches!(step.action, Action::CheckFetched { .. }));
    let outputs = steps.filter_map(|step| operation.output(&step.id)?.get("checks").cloned());
    outputs.flat_map(|checks| checks.as_array().cloned().unwrap_or_default()).collect()
}
