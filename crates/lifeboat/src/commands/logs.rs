//! `logs`: errors in log files by kind, and what the app's own log says.

use lifeboat_engine::logs::{LogScan, Span, scan};
use lifeboat_io::Stop;
use lifeboat_model::{ExitCode, Failure, FailureKind, Resource, ResourceKind, Timestamp};
use serde_json::json;

use super::{App, Session};
use crate::{
    cli::records::{LogsCommand, SpanArgs},
    error::Done,
    ui::{table::Table, when, words},
    wire,
};

/// Entries of the app's log that are shown one by one.
const SHOWN: usize = 20;

pub fn run(app: &App, command: &LogsCommand) -> Done {
    match command {
        LogsCommand::Scan { files, span } => {
            let session = app.open(&[])?;
            let stop = Stop::default();
            let _signals = wire::signals(&stop);
            let span = read_span(app, &session, span)?;
            let found = scan(files, span, &session.zone, &stop)?;
            tell_scan(app, &found)
        }
        LogsCommand::Audit { resource, table, span } => {
            let named: Vec<String> = resource.iter().cloned().collect();
            let session = app.open(&named)?;
            let database = database(&session)?;
            let span = read_span(app, &session, span)?;
            audit(app, database, table, span)
        }
    }
}

fn read_span(app: &App, session: &Session, args: &SpanArgs) -> Result<Span, Failure> {
    let now = app.io.clock.now();
    let time = |text: &Option<String>| text.as_deref().map(|text| when::parse(text, now, &session.zone)).transpose();
    Ok(Span { since: time(&args.since)?, until: time(&args.until)? })
}

fn tell_scan(app: &App, found: &LogScan) -> Done {
    if app.ui.json.is_some() {
        app.ui.document("lifeboat/log-scan@1", json!({ "found": found, "exit_code": 0 }))?;
        return Ok(ExitCode::Ok);
    }
    let lines = words::count(found.lines, "line", "lines");
    app.ui.out(&format!("{lines} read, {} in the span.\n", found.in_span))?;
    if found.undated > 0 {
        let undated = words::count(found.undated, "line", "lines");
        app.ui.out(&format!("{undated} before the first time in a file; with a span they do not count.\n"))?;
    }
    if found.kinds.is_empty() {
        app.ui.out("No errors.\n")?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["KIND", "COUNT", "FIRST (UTC)", "LAST (UTC)", "FOR EXAMPLE"]).right(&[1]);
    let mut kinds: Vec<_> = found.kinds.iter().collect();
    kinds.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.count));
    for (name, kind) in kinds {
        let at = |at: Option<Timestamp>| at.map(words::short_instant).unwrap_or_default();
        let example = words::shortened(&words::one_line(&kind.example), 80);
        table.row([name.clone(), kind.count.to_string(), at(kind.first), at(kind.last), example]);
    }
    app.ui.out(&table.render(""))?;
    Ok(ExitCode::Ok)
}

fn database(session: &Session) -> Result<&Resource, Failure> {
    let meant = |resource: &&Resource| session.named.is_empty() || session.named.contains(&resource.name);
    let is_database = |resource: &&Resource| matches!(resource.kind, ResourceKind::Sqlite { .. });
    let mut found = session.engine.setup().resources.iter().filter(meant).filter(is_database);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => {
            let failure = Failure::new(FailureKind::Usage, format!("there are {} and {}", one.name, other.name));
            Err(failure.hint(format!("name one: lifeboat logs audit {}", one.name)))
        }
        (None, _) => Err(Failure::new(FailureKind::Usage, "there is no database to look into")),
    }
}

fn audit(app: &App, database: &Resource, table: &str, span: Span) -> Done {
    let since = span.since.unwrap_or(Timestamp::UNIX_EPOCH);
    let until = span.until.unwrap_or(app.io.clock.now());
    let log = wire::audit_log(database.kind.path(), table, since, until, SHOWN)?;
    if app.ui.json.is_some() {
        let fields = json!({
            "resource": database.name, "table": table, "since": since, "until": until, "log": log, "exit_code": 0
        });
        app.ui.document("lifeboat/audit-log@1", fields)?;
        return Ok(ExitCode::Ok);
    }
    let Some(log) = log else {
        let text =
            format!("{} has no table {table} that tells times, so nothing can be said from it.\n", database.name);
        app.ui.out(&text)?;
        return Ok(ExitCode::Ok);
    };
    let entries = words::count(log.entries, "entry", "entries");
    app.ui.out(&format!("{entries} in {table} by {}.\n", words::one_line(&log.time_column)))?;
    let mut counts = Table::new(&["WHAT", "COUNT"]).right(&[1]);
    log.counts.iter().for_each(|(what, count)| counts.row([words::one_line(what), count.to_string()]));
    if log.entries > 0 {
        app.ui.out(&counts.render("  "))?;
    }
    for entry in &log.first {
        let fields =
            entry.iter().map(|(name, value)| format!("{name}={}", words::shortened(&words::one_line(value), 40)));
        app.ui.out(&format!("  {}\n", fields.collect::<Vec<_>>().join(" ")))?;
    }
    Ok(ExitCode::Ok)
}
