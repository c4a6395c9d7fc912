//! Every command: words become requests, requests become plans, answers become text or JSON.

mod advise;
mod asks;
mod assertions;
mod backups;
mod by_steps;
mod card;
mod carry;
mod checklists;
mod compare;
pub mod config;
mod copies;
mod copy;
mod decide;
mod demo;
mod deploy;
pub mod doctor;
mod elsewhere;
mod escalation;
mod evidence;
mod export;
mod features;
mod fence;
mod history;
mod incidents;
pub mod init;
mod journal;
mod leaks;
mod logs;
mod messages;
mod monitor;
mod objectives;
mod plans;
mod policy;
mod preflight;
mod provider;
mod ready;
mod rehearse;
mod requests;
mod retention;
mod rollback;
mod salvage;
mod schedule;
mod serve;
mod sheet;
mod shell;
mod shims;
mod status;
mod sync;
mod unfinished;
mod variables;
mod vault;
mod verify;
mod versions;
mod watch;

use lifeboat_model::{ExitCode, Failure};

pub use crate::app::{App, Session};
use crate::{cli::Command, error::Done};

/// Runs the command.
///
/// # Errors
/// Why it ended early.
pub fn dispatch(app: &App, command: Option<Command>) -> Done {
    let Some(command) = command else { return shell::guide(app) };
    match command {
        Command::Status(args) => status::run(app, &args),
        Command::Restore(args) => requests::restore(app, &args),
        Command::Undo(args) => requests::undo(app, &args),
        Command::Resume(args) => unfinished::resume(app, &args),
        Command::Abort(args) => unfinished::abort(app, &args),
        Command::Watch(args) => watch::run(app, &args),
        Command::Backup(args) => requests::backup(app, &args),
        Command::Backups(args) => backups::run(app, &args.command),
        Command::Prove(args) => requests::prove(app, &args),
        Command::Export(args) => export::run(app, &args),
        Command::Shims(args) => shims::run(app, &args.command),
        Command::Schedule(args) => schedule::run(app, &args.command),
        Command::Docs(args) => card::run(app, &args.command),
        Command::Verify(args) => verify::run(app, &args),
        Command::Plan(args) => plans::plan(app, &args.what),
        Command::Apply(args) => plans::apply(app, &args),
        Command::Release(args) => requests::release(app, &args),
        Command::Salvage(args) => salvage::run(app, &args),
        Command::Feature(args) => features::run(app, &args),
        Command::Fence(args) => fence::fence(app, &args),
        Command::Policy(args) => policy::run(app, &args),
        Command::Maintenance(args) => fence::maintenance(app, &args.command),
        Command::Sync(args) => sync::run(app, &args),
        Command::Advise(args) => advise::run(app, &args),
        Command::Escalation(args) => escalation::run(app, &args),
        Command::Ready(args) => ready::run(app, &args),
        Command::App(args) => sync::app_start(app, &args.command),
        Command::Level(args) => sync::level(app, &args),
        Command::Monitor(args) => monitor::run(app, &args.what),
        Command::Serve(args) => serve::serve(app, &args),
        Command::Token(args) => serve::token(app, &args),
        Command::Retention(args) => retention::run(app, &args.command),
        Command::Vault(args) => vault::run(app, &args.command),
        Command::Checkpoint(args) => versions::checkpoint(app, &args),
        Command::Deploy(args) => deploy::run(app, &args),
        Command::Redeploy(args) => deploy::once_more(app, &args),
        Command::Rollback(args) => rollback::run(app, &args),
        Command::Rehearse(args) => rehearse::run(app, &args.command),
        Command::Checklist(args) => checklists::run(app, &args.command),
        Command::Messages(args) => messages::run(app, &args.command),
        Command::Sheet(args) => sheet::run(app, &args.command),
        Command::Releases(args) => versions::releases(app, &args.command),
        Command::Migrate(args) => versions::migrate(app, &args.command),
        Command::Objectives => objectives::run(app),
        Command::Shadow(args) => versions::shadow(app, &args.command),
        Command::History(args) => history::run(app, &args),
        Command::Incident(args) => incidents::run(app, &args.command),
        Command::Decide(args) => decide::run(app, &args),
        Command::Assess(args) => decide::assess(app, &args),
        Command::Provider(args) => provider::run(app, &args.command),
        Command::Env(args) => variables::run(app, &args.command),
        Command::Evidence(args) => evidence::run(app, &args.command),
        Command::Logs(args) => logs::run(app, &args.command),
        Command::Journal(args) => journal::run(app, &args.command),
        Command::Init(args) => written(app, |out| init::run(&app.global, &args, &app.io, out)),
        Command::Preflight(args) => preflight::run(app, &args.what),
        Command::Doctor(_args) => written(app, |out| doctor::run(&app.global, &app.io, out)),
        Command::Config(args) => written(app, |out| config::run(&app.global, &args, &app.io, out)),
        Command::Demo(args) => demo::run(app, args.folder),
        Command::DemoTill(args) => demo::till(&args.database, &args.until),
        Command::Completions(args) => shell::completions(app, &args),
        Command::Man(args) => shell::man(app, &args),
    }
}

/// Runs a command that writes its own answer.
fn written(app: &App, work: impl FnOnce(&mut dyn std::io::Write) -> Result<ExitCode, Failure>) -> Done {
    let mut answer = Vec::new();
    let code = work(&mut answer);
    // Half an answer, too, says something.
    app.ui.out(&String::from_utf8_lossy(&answer))?;
    Ok(code?)
}
