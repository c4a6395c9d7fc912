//! `sheet`: a procedure as commands with real values, for the day without Lifeboat.

use lifeboat_io::files;
use lifeboat_model::{ExitCode, Failure, FailureKind, Request, VersionAsk};
use serde_json::json;

use super::App;
use crate::{cli::versions::SheetCommand, error::Done};

pub fn run(app: &App, command: &SheetCommand) -> Done {
    let SheetCommand::Rollback { release, profile, html, to } = command;
    let session = app.open(&[])?;
    let about = VersionAsk::RollBack {
        to: release.clone(),
        profile: profile.map(Into::into),
        why: String::new(),
        backup: None,
    };
    let plan = session.engine.plan(&Request::Version { about })?;
    let sheet = session.engine.sheet(&plan)?;
    let is_page = *html || to.as_ref().and_then(|to| to.extension()).is_some_and(|end| end == "html" || end == "htm");
    let text = if is_page { sheet.html() } else { sheet.markdown() };
    if let Some(to) = to {
        let failed = |error| {
            Failure::from_error(FailureKind::Outside, &error)
                .while_doing("the sheet cannot be written")
                .hint("--to FILE")
        };
        files::create_folder(files::parent(to)).map_err(failed)?;
        files::write_with_mode(to, text.as_bytes(), 0o644).map_err(failed)?;
    }
    match (app.ui.json.is_some(), to) {
        (true, _) => app.ui.document("lifeboat/sheet@1", json!({ "sheet": sheet, "file": to, "exit_code": 0 }))?,
        (false, Some(to)) => app.ui.out(&format!("Wrote {}.\n", to.display()))?,
        (false, None) => app.ui.out(&text)?,
    }
    Ok(ExitCode::Ok)
}
