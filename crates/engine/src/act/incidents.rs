//! The incident log: a file beside the app's documents that tells of every restore, rollback and undo.

use lifeboat_io::files;
use lifeboat_model::{Action, Failure, Operation, OperationState, Request, VersionAsk};
use serde_json::json;

use super::{Hands, errors::path_failure};

/// Tells of an operation that is over, when it is one of those and somebody wants to read of it.
pub fn tell(hands: &Hands, operation: &Operation) -> Result<(), Failure> {
    let Some(path) = &hands.setup.incident_log else { return Ok(()) };
    let live = matches!(
        operation.plan.request,
        Request::Restore { into: None, .. }
            | Request::Undo { .. }
            | Request::Version { about: VersionAsk::RollBack { .. } | VersionAsk::Platform(_) }
    );
    if !live {
        return Ok(());
    }
    let as_lines = path.extension().is_some_and(|end| end == "jsonl" || end == "ndjson");
    let text = if as_lines { format!("{}\n", line(operation)) } else { paragraph(operation, !files::exists(path)) };
    files::append_text(path, &text).map_err(|error| {
        path_failure(&error).while_doing(format!("{} could not be told to the incident log", operation.id))
    })
}

fn ended(operation: &Operation) -> &'static str {
    match operation.state {
        OperationState::Done => "done",
        OperationState::PutBack { .. } => "put back as it was",
        OperationState::HandedOver { .. } => "left to what came after it",
        OperationState::Running | OperationState::TurningBack { .. } | OperationState::Paused { .. } => "not over",
    }
}

fn why(operation: &Operation) -> Option<String> {
    match &operation.state {
        OperationState::PutBack { why: Some(why) } => Some(why.message.clone()),
        OperationState::PutBack { why: None } | OperationState::Done | OperationState::Running => None,
        OperationState::HandedOver { why } => Some(why.message.clone()),
        OperationState::TurningBack { why } | OperationState::Paused { why } => Some(why.message.clone()),
    }
}

/// The backup that came back, the one that was made of what was there, and where the former files are.
fn involved(operation: &Operation) -> [Option<String>; 3] {
    let find = |pick: &dyn Fn(&Action) -> Option<String>| operation.plan.steps().find_map(|step| pick(&step.action));
    [
        find(&|action| match action {
            Action::Fetch { backup, .. } => Some(backup.to_string()),
            _other => None,
        }),
        find(&|action| match action {
            Action::StoreBackup { backup, .. } => Some(backup.to_string()),
            _other => None,
        }),
        find(&|action| match action {
            Action::SetAside { kept, .. } => Some(kept.display().to_string()),
            _other => None,
        }),
    ]
}

fn line(operation: &Operation) -> serde_json::Value {
    let [from, kept_as, kept_at] = involved(operation);
    json!({
        "schema": "lifeboat/incident@1", "at": operation.last_at, "operation": operation.id,
        "scope": operation.plan.scope.to_string(), "what": operation.plan.title, "ended": ended(operation),
        "why": why(operation), "by": operation.by, "host": operation.host, "began": operation.started_at,
        "took_s": operation.elapsed().as_secs(), "from_backup": from,
        "emergency_backup": kept_as, "former_files": kept_at, "notes": operation.plan.notes,
    })
}

fn paragraph(operation: &Operation, first: bool) -> String {
    let at = operation.last_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let took = lifeboat_model::time::show_duration(operation.elapsed());
    let mut text = if first { "# Incident log\n".to_owned() } else { String::new() };
    let (title, how) = (&operation.plan.title, ended(operation));
    text += &format!(
        "\n## {at}: {title}\n\n- {how}, in {took}; operation {} by {} on {}\n",
        operation.id, operation.by, operation.host
    );
    let [from, kept_as, kept_at] = involved(operation);
    let told = [
        ("why", why(operation)),
        ("from backup", from),
        ("what was there is in emergency backup", kept_as),
        ("the former files are kept as", kept_at),
    ];
    for (what, told) in told {
        text += &told.map(|told| format!("- {what}: {told}\n")).unwrap_or_default();
    }
    for note in &operation.plan.notes {
        text += &format!("- {note}\n");
    }
    text
}
