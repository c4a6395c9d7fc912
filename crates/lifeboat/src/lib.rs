//! The command line: words in, requests to the engine, answers out.

pub mod app;
pub mod cli;
pub mod commands;
pub mod error;
pub mod outside;
pub mod secrets;
pub mod settings;
pub mod ui;
pub mod wire;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
};

use clap::Parser;
use lifeboat_model::{ExitCode, Failure, FailureKind};

use crate::{app::App, cli::Cli, ui::Ui};

/// Runs one command, from its words to its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> std::process::ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    error::install_panic_hook();
    let code = catch_unwind(AssertUnwindSafe(|| run_one(&args))).unwrap_or_else(|_told_by_the_hook| {
        if error::asks_for_json(&args) {
            let failure = Failure::new(FailureKind::Bug, "lifeboat broke off by a defect of its own");
            error::print_json(&failure, ExitCode::FailedUndone, None);
        }
        ExitCode::FailedUndone
    });
    std::process::ExitCode::from(code as u8)
}

fn run_one(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(refused) => return error::tell_usage(&refused, args),
    };
    let io = wire::io();
    let ui = Ui::new(&cli.global, &io);
    let app = App { io, ui, typed: error::typed(args), global: cli.global, again: std::sync::OnceLock::new() };
    match commands::dispatch(&app, cli.command) {
        Ok(code) => code,
        Err(ended) => error::tell(&app, &ended),
    }
}
