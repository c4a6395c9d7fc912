//! Data out of the vault into a folder, and a script's file into the vault.

use lifeboat_engine::act::EXPORT_WARNING;
use lifeboat_io::files;
use lifeboat_model::{ExitCode, Failure, FailureKind, Request};

use super::{App, asks, carry::carry_out, requests};
use crate::{
    cli::exports::{AdoptArgs, ExportArgs},
    error::Done,
    outside,
    ui::when,
};

pub fn run(app: &App, args: &ExportArgs) -> Done {
    let session = app.open(&args.resources)?;
    let server = args.server.as_deref().map(|word| server_of(app, word)).transpose()?;
    let request = Request::Export {
        resources: session.named.clone(),
        from: asks::choice(app, &session, args.from.as_deref(), args.before.as_deref())?,
        to: files::absolute(&args.to).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?,
        format: args.format.into(),
        tables: args.tables.clone(),
        encrypt_to: args.encrypt.clone(),
        data_only: args.data_only,
        gzip: args.gzip || args.to.extension().is_some_and(|end| end == "gz"),
        server,
    };
    let plan = session.engine.plan(&request)?;
    let code = carry_out(app, &session, &plan, requests::dry(args.run.dry_run))?;
    if code == ExitCode::Ok && !args.run.dry_run && app.ui.json.is_none() {
        let more = plan.notes.iter().filter(|note| *note != EXPORT_WARNING);
        more.for_each(|note| app.ui.talk(&format!("{note}\n")));
        if args.encrypt.is_empty() {
            app.ui.err(&format!("{} {EXPORT_WARNING}\n", app.ui.paint_err.doubtful("warning:")));
        }
    }
    Ok(code)
}

/// The address of a server, without a password: that belongs where it is found again when the operation goes on.
fn server_of(app: &App, word: &str) -> Result<String, Failure> {
    let text = word.strip_prefix("postgres:").filter(|rest| !rest.starts_with("//")).unwrap_or(word);
    let server = outside::on_server(text, &app.io)?;
    let login = text.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map_or("", |(login, _)| login);
    if login.contains(':') || text.contains("password=") {
        let failure = Failure::new(FailureKind::Usage, "--server takes an address without a password");
        return Err(failure.hint("put it into ~/.pgpass, or into PGPASSWORD"));
    }
    Ok(server.url)
}

/// `backups adopt`.
pub fn adopt(app: &App, args: &AdoptArgs) -> Done {
    let about = match (&args.resource, app.global.about.as_slice()) {
        (Some(one), [] | [_]) | (None, [one]) => std::slice::from_ref(one),
        (None, []) | (_, [_, _, ..]) => {
            let failure = Failure::new(FailureKind::Usage, "a file is adopted as a backup of one resource");
            return Err(failure.hint("say which: --for RESOURCE").into());
        }
    };
    let session = app.open(about)?;
    let resource = session.named.first().cloned();
    let resource = resource.ok_or_else(|| Failure::new(FailureKind::Usage, "say which resource: --for RESOURCE"))?;
    let at = args.at.as_deref().map(|text| when::parse(text, app.io.clock.now(), &session.zone)).transpose()?;
    let file = files::absolute(&args.file).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let server = args.server.as_deref().map(|word| server_of(app, word)).transpose()?;
    let plan = session.engine.plan(&Request::Adopt { resource, file, at, label: args.label.clone(), server })?;
    if !args.run.dry_run && app.ui.json.is_none() {
        plan.notes.iter().for_each(|note| app.ui.talk(&format!("{note}\n")));
    }
    carry_out(app, &session, &plan, requests::dry(args.run.dry_run))
}
