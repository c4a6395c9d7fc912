//! What helps to type: a short guide, completions, manual pages.

use clap::CommandFactory;
use lifeboat_io::files;
use lifeboat_model::{ExitCode, Failure, FailureKind};

use super::App;
use crate::{
    cli::{Cli, CompletionsArgs, ManArgs},
    error::Done,
};

/// What `lifeboat` alone prints: the commands of a bad night.
const GUIDE: &str = "\
Something is wrong now:
  lifeboat status                        where everything stands
  lifeboat restore NAME --dry-run        what a restore would do, and which rows would leave
  lifeboat restore NAME                  bring it back; what is there now is kept
  lifeboat restore NAME --before 14:05   as it was before that time
  lifeboat undo                          take the last restore back
  lifeboat resume                        go on with what was interrupted; lifeboat abort puts it back
  lifeboat watch                         follow what another process is doing

Before that:
  lifeboat init                          write a settings file for what is here
  lifeboat backup                        take a backup
  lifeboat prove                         restore it into a sandbox, check it, record the proof
  lifeboat doctor                        is everything there that a restore will need?

All commands: lifeboat --help. Examples for one: lifeboat restore --help.
";

pub fn guide(app: &App) -> Done {
    app.ui.out(GUIDE)?;
    Ok(ExitCode::Ok)
}

pub fn completions(app: &App, args: &CompletionsArgs) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lifeboat", &mut script);
    app.ui.out(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Ok)
}

pub fn man(app: &App, args: &ManArgs) -> Done {
    let Some(folder) = &args.folder else {
        app.ui.out(&page(&Cli::command())?)?;
        return Ok(ExitCode::Ok);
    };
    let failed = |error: files::PathError| {
        Failure::from_error(FailureKind::Outside, &error).while_doing("the manual pages cannot be written")
    };
    files::create_folder(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
        Failure::from_error(FailureKind::Outside, &error).while_doing("the manual pages cannot be written")
    })?;
    app.ui.talk(&format!("The pages are in {}: man -l {}\n", folder.display(), folder.join("lifeboat.1").display()));
    Ok(ExitCode::Ok)
}

fn page(command: &clap::Command) -> Result<String, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut text)
        .map_err(|error| Failure::from_error(FailureKind::Bug, &error).while_doing("a manual page cannot be made"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
