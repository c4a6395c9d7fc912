//! Commands that ask for something: backup, restore, prove, undo, release.

use lifeboat_model::{ExitCode, Request};

use super::{
    App, asks,
    carry::{Consent, carry_out, carry_out_any_way},
    copies, copy,
};
use crate::{
    cli::{BackupArgs, ConsentArgs, ProveArgs, ReleaseArgs, RestoreArgs, UndoArgs},
    error::Done,
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
    let plan = session.engine.plan(&asks::backup(&session, &args.ask))?;
    let code = carry_out(app, &session, &plan, dry(args.run.dry_run))?;
    if args.run.dry_run || !matches!(code, ExitCode::Ok | ExitCode::OverBudget) {
        return Ok(code);
    }
    copy::make_files_beside(app, &session)?;
    Ok(copies::after_backup(app, &session, code))
}

pub fn restore(app: &App, args: &RestoreArgs) -> Done {
    let session = app.open(std::slice::from_ref(&args.ask.resource))?;
    if let Some(table) = &args.rows.table {
        let request = asks::table(app, &session, args, table)?;
        let plan = session.engine.plan(&request)?;
        return carry_out(app, &session, &plan, args.consent.consent());
    }
    let plan = session.engine.plan(&asks::restore(app, &session, &args.ask)?)?;
    if !args.consent.dry_run {
        session.engine.must_be_acknowledged(&plan)?;
    }
    if !args.one_way {
        return carry_out_any_way(app, &session, &plan, args.consent.consent());
    }
    carry_out(app, &session, &plan, args.consent.consent())
}

pub fn prove(app: &App, args: &ProveArgs) -> Done {
    let session = app.open(&[])?;
    let plan = session.engine.plan(&asks::prove(&session, &args.ask)?)?;
    carry_out(app, &session, &plan, dry(args.run.dry_run))
}

pub fn undo(app: &App, args: &UndoArgs) -> Done {
    let session = app.open(&[])?;
    let plan = session.engine.plan(&asks::undo(&session, args.operation.as_deref())?)?;
    carry_out(app, &session, &plan, args.consent.consent())
}

pub fn release(app: &App, args: &ReleaseArgs) -> Done {
    let session = app.open(&[])?;
    let operation = session.operation_named(&args.operation)?;
    let plan = session.engine.plan(&Request::Release { operation })?;
    carry_out(app, &session, &plan, args.consent.consent())
}
