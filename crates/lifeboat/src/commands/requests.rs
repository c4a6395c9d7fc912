//! Commands that ask for something: backup, restore, prove, undo, release.

use lifeboat_model::{BackupChoice, BackupReason, ExitCode, Failure, FailureKind, Request, ResourceName};

use super::{
    App, Session,
    carry::{Consent, carry_out},
    copies, copy,
};
use crate::{
    cli::{
        BackupArgs, BackupAsk, ConsentArgs, ProveArgs, ProveAsk, ReasonArg, ReleaseArgs, RestoreArgs, RestoreAsk,
        UndoArgs,
    },
    error::Done,
    ui::when,
};

impl ConsentArgs {
    pub(crate) fn consent(&self) -> Consent<'_> {
        Consent { dry_run: self.dry_run, confirm: self.confirm.as_deref() }
    }
}

pub(super) fn dry(dry_run: bool) -> Consent<'static> {
    Consent { dry_run, confirm: None }
}

pub fn backup(app: &App, args: &BackupArgs) -> Done {
    let said = |setup: &mut lifeboat_engine::Setup| setup.deploy_said.clone_from(&args.deployed);
    let session = app.open_saying(&args.ask.resources, &said)?;
    if let Some(pattern) = args.copy.copy_to.as_deref().filter(|_| !args.run.dry_run) {
        let wanted = copy::Wanted { pattern, alias: args.copy.alias };
        let code = copy::backup(app, &session, &args.ask, &wanted)?;
        return Ok(copies::after_backup(app, &session, code));
    }
    let plan = session.engine.plan(&ask_backup(&session, &args.ask))?;
    let code = carry_out(app, &session, &plan, dry(args.run.dry_run))?;
    if args.run.dry_run || !matches!(code, ExitCode::Ok | ExitCode::OverBudget) {
        return Ok(code);
    }
    copy::renew_aliases(app, &session)?;
    Ok(copies::after_backup(app, &session, code))
}

/// What `backup` asks for.
pub fn ask_backup(session: &Session, ask: &BackupAsk) -> Request {
    let reason = match ask.reason {
        ReasonArg::Manual => BackupReason::Manual,
        ReasonArg::Scheduled => BackupReason::Scheduled,
        ReasonArg::PreDeploy => BackupReason::PreDeploy,
    };
    Request::Backup { resources: session.named.clone(), reason, label: ask.label.clone() }
}

pub fn restore(app: &App, args: &RestoreArgs) -> Done {
    let session = app.open_saying(std::slice::from_ref(&args.ask.resource), &urgent(&args.ask))?;
    let plan = session.engine.plan(&ask_restore(app, &session, &args.ask)?)?;
    carry_out(app, &session, &plan, args.consent.consent())
}

/// Tells the engine why something may be done that is refused otherwise.
pub fn urgent(ask: &RestoreAsk) -> impl Fn(&mut lifeboat_engine::Setup) {
    let why = ask.reason.clone().filter(|_| ask.urgent);
    move |setup| setup.urgent.clone_from(&why)
}

/// What `restore` asks for.
pub fn ask_restore(app: &App, session: &Session, ask: &RestoreAsk) -> Result<Request, Failure> {
    let from = choice(app, session, ask.from.as_deref(), ask.before.as_deref())?;
    let into = ask.into.as_deref().map(lifeboat_io::files::absolute).transpose();
    let into = into.map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let resource = session.named.first().cloned().ok_or_else(|| Failure::new(FailureKind::Usage, "name a resource"))?;
    Ok(Request::Restore { resource, from, into, without_emergency_backup: ask.without_emergency_backup.clone() })
}

/// Which backup is meant by `--from` and `--before`.
pub fn choice(app: &App, session: &Session, from: Option<&str>, before: Option<&str>) -> Result<BackupChoice, Failure> {
    Ok(match (from, before) {
        (Some(start), _) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
        (None, Some(text)) => BackupChoice::Before(when::parse(text, app.io.clock.now(), &session.zone)?),
        (None, None) => BackupChoice::Latest,
    })
}

pub fn prove(app: &App, args: &ProveArgs) -> Done {
    let session = app.open(&[])?;
    let plan = session.engine.plan(&ask_prove(&session, &args.ask)?)?;
    carry_out(app, &session, &plan, dry(args.run.dry_run))
}

/// What `prove` asks for.
pub fn ask_prove(session: &Session, ask: &ProveAsk) -> Result<Request, Failure> {
    let backup = match &ask.backup {
        Some(start) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
        None => BackupChoice::Latest,
    };
    let name = |word: &String| ResourceName::new(word).map_err(|error| Failure::from_error(FailureKind::Usage, &error));
    let resources = ask.resources.iter().map(name).collect::<Result<_, _>>()?;
    Ok(Request::Prove { backup, resources })
}

pub fn undo(app: &App, args: &UndoArgs) -> Done {
    let session = app.open(&[])?;
    let plan = session.engine.plan(&ask_undo(&session, args.operation.as_deref())?)?;
    carry_out(app, &session, &plan, args.consent.consent())
}

/// What `undo` asks for: the named operation, or the newest that can be taken back.
pub fn ask_undo(session: &Session, start: Option<&str>) -> Result<Request, Failure> {
    let operation = match start {
        Some(start) => session.operation_named(start)?,
        None => session.engine.look().last_undoable()?,
    };
    Ok(Request::Undo { operation })
}

pub fn release(app: &App, args: &ReleaseArgs) -> Done {
    let session = app.open(&[])?;
    let operation = session.operation_named(&args.operation)?;
    let plan = session.engine.plan(&Request::Release { operation })?;
    carry_out(app, &session, &plan, args.consent.consent())
}
