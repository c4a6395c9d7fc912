//! `lifeboat preflight restore`: could a restore begin now? Each thing it needs with pass, unknown or fail; changes nothing.

use lifeboat_engine::{Rehearsed, Unwatched};
use lifeboat_io::Stop;
use lifeboat_model::{
    AcceptLoss, Backup, BackupChoice, ExitCode, Failure, FailureKind, Request, Resource, ResourceName, Tri,
    choose_backup,
};
use serde_json::json;

use super::{
    App, Session,
    doctor::{Finding, Group, told, writer},
};
use crate::{
    cli::PreflightCommand,
    error::Done,
    ui::words::{instant, tri},
    wire,
};

pub fn run(app: &App, what: &PreflightCommand) -> Done {
    let PreflightCommand::Restore { resources } = what;
    let session = app.open(resources)?;
    let groups =
        [Group { about: format!("restore of {}", session.engine.setup().scope), findings: findings(app, &session) }];
    let good = Tri::worst(groups.iter().flat_map(|group| &group.findings).map(|finding| finding.outcome));
    let code = match good {
        Tri::Pass => ExitCode::Ok,
        Tri::Unknown => ExitCode::Unknown,
        Tri::Fail => ExitCode::Refused,
    };
    if app.ui.json.is_some() {
        let fields = json!({ "good": good, "groups": groups, "exit_code": code as u8 });
        app.ui.document("lifeboat/preflight@1", fields)?;
    } else {
        app.ui.out(&told(&groups))?;
    }
    Ok(code)
}

fn findings(app: &App, session: &Session) -> Vec<Finding> {
    let engine = &session.engine;
    let is_meant = |name: &ResourceName| session.named.is_empty() || session.named.contains(name);
    let resources: Vec<&Resource> =
        engine.setup().resources.iter().filter(|resource| is_meant(&resource.name)).collect();
    let backups = engine.backups();
    let mut found = vec![credentials(engine.setup().vault.as_str(), backups.as_ref().err())];
    for resource in resources {
        found.extend(tools(app, resource));
        match &backups {
            Ok(backups) => found.extend(about(session, resource, backups)),
            Err(_told_already) => {
                found.push(Finding::new(format!("{} backup", resource.name), Tri::Unknown, "the vault does not open"));
            }
        }
    }
    found
}

/// Whether the vault opens with what is known.
fn credentials(location: &str, failure: Option<&Failure>) -> Finding {
    let Some(failure) = failure else {
        return Finding::new("credentials", Tri::Pass, format!("{location} opens, and its backups can be listed"));
    };
    let finding = Finding::failure("credentials", failure).lost("nothing can be restored");
    // A place that does not answer says nothing about the password.
    let outcome = match failure.kind {
        FailureKind::Outside | FailureKind::Busy | FailureKind::Unknown | FailureKind::Interrupted => Tri::Unknown,
        FailureKind::Usage | FailureKind::Refused | FailureKind::Stale | FailureKind::NeedsPerson => Tri::Fail,
        FailureKind::Damaged | FailureKind::Bug => Tri::Fail,
    };
    Finding { outcome, ..finding }
}

/// What a restore would start: the commands that stop and start the writer. Everything else is in this program.
fn tools(app: &App, resource: &Resource) -> Vec<Finding> {
    let found = writer(resource, &app.io);
    if !found.is_empty() {
        return found;
    }
    if resource.kind.path().is_none() {
        return Vec::new(); // `pg_dump` and the server are asked by the plan's own first steps
    }
    let detail = format!("no other program is needed; SQLite {} is inside", wire::sqlite_version());
    vec![Finding::new(format!("{} tools", resource.name), Tri::Pass, detail)]
}

fn about(session: &Session, resource: &Resource, backups: &[Backup]) -> Vec<Finding> {
    let (engine, name) = (&session.engine, &resource.name);
    let scope = &engine.setup().scope;
    let backup = match choose_backup(backups, scope, name, &BackupChoice::Latest) {
        Ok(backup) => backup,
        Err(error) => {
            let finding = Finding::new(format!("{name} backup"), Tri::Fail, error.to_string());
            return vec![
                finding.lost(format!("{name} cannot be brought back")).next(format!("lifeboat backup {name}")),
            ];
        }
    };
    let at = instant(backup.recovery_point, &session.zone);
    let there = format!("{} is the newest good one, complete up to {at}", backup.id);
    vec![
        Finding::new(format!("{name} backup"), Tri::Pass, there),
        rehearsed(session, name, backup),
        first_steps(session, name, backup),
    ]
}

fn rehearsed(session: &Session, name: &ResourceName, backup: &Backup) -> Finding {
    let called = format!("{name} rehearsed");
    let demanded = session.engine.setup().rehearse_first;
    match session.engine.is_rehearsed(&backup.id, name) {
        Err(failure) => Finding { outcome: Tri::Unknown, ..Finding::failure(called, &failure) },
        Ok(true) => Finding::new(called, Tri::Pass, format!("{} has passed a proof", backup.id)),
        Ok(false) => {
            let outcome = if demanded { Tri::Fail } else { Tri::Unknown };
            let finding = Finding::new(called, outcome, format!("{} has not passed a proof", backup.id));
            let finding = if demanded { finding.lost("a restore is refused, unless it is urgent") } else { finding };
            finding.next(format!("lifeboat prove {}", backup.id))
        }
    }
}

/// Plans the restore and tries what can be tried of it: room, the backup whole in the vault, nobody holding the file.
fn first_steps(session: &Session, name: &ResourceName, backup: &Backup) -> Finding {
    let called = format!("{name} restore");
    let request = Request::Restore {
        resource: name.clone(),
        from: BackupChoice::Exactly(backup.id.clone()),
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: AcceptLoss::Shown,
        // Whether it was rehearsed is told by itself.
        urgent: Some("preflight".to_owned()),
        ack: None,
    };
    let looked =
        session.engine.plan(&request).and_then(|plan| session.engine.rehearse(&plan, &Unwatched, &Stop::default()));
    let looked = match looked {
        Err(failure) => return Finding::failure(called, &failure),
        Ok(looked) => looked,
    };
    let failed = looked.iter().find_map(|step| match step {
        Rehearsed::Fails(failure) => Some(failure),
        Rehearsed::Checked | Rehearsed::NotTried => None,
    });
    match failed {
        Some(failure) => Finding::failure(called, failure),
        None => {
            let tried = looked.iter().filter(|step| matches!(step, Rehearsed::Checked)).count();
            let detail = format!("its {tried} looks at room, vault and what is live are {}", tri(Tri::Pass));
            Finding::new(called, Tri::Pass, detail)
        }
    }
}
