//! `sync`: the mirror of a SQLite file, switched, looked at, delivered.

use std::time::Duration;

use lifeboat_engine::{Mirror, sync::Compared};
use lifeboat_io::{Stop, files};
use lifeboat_model::{
    BackupChoice, ExitCode, Failure, FailureKind, LevelAsk, Plan, Request, ResourceName,
    sync::{CycleReport, LetterChoice, SyncAsk, SyncStatus, Tier},
    time::parse_duration,
};
use serde_json::{Value, json};

use super::{
    App, Session,
    carry::{Consent, carry_out, watched_by},
    requests::dry,
};
use crate::{
    cli::sync::{AppCommand, LevelArgs, QueueCommand, SyncArgs, SyncCommand},
    error::Done,
    ui::{table::Table, words},
    wire,
};

pub fn run(app: &App, args: &SyncArgs) -> Done {
    let session = app.open(&[])?;
    let name = link_named(&session, args.link.as_deref())?;
    let ask = |about, consent: Consent<'_>| {
        let plan = session.engine.plan(&Request::Sync { link: name.clone(), about })?;
        carry_out(app, &session, &plan, consent)
    };
    match &args.command {
        SyncCommand::Status => status(app, &session, &name),
        SyncCommand::Enable => ask(SyncAsk::Enable, dry(false)),
        SyncCommand::Disable { reason } => ask(SyncAsk::Disable { why: reason.clone() }, dry(false)),
        SyncCommand::Trigger => trigger(app, &session, &name),
        SyncCommand::Run => keep_running(app, &session, &name),
        SyncCommand::Queue { command } => match command {
            QueueCommand::List { limit } => list(app, &session, &name, *limit),
            QueueCommand::Save { file } => save(app, &session, &name, file),
            QueueCommand::Clear { reason, consent } => ask(SyncAsk::Clear { why: reason.clone() }, consent.consent()),
            QueueCommand::Import { file } => {
                let file = files::absolute(file).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
                ask(SyncAsk::Import { file }, dry(false))
            }
            QueueCommand::Retry { ids } => {
                ask(SyncAsk::Letters { choice: LetterChoice::Retry, ids: ids.clone() }, dry(false))
            }
            QueueCommand::Drop { ids } => {
                ask(SyncAsk::Letters { choice: LetterChoice::Drop, ids: ids.clone() }, dry(false))
            }
        },
        SyncCommand::Attach { consent } => ask(SyncAsk::Attach, consent.consent()),
        SyncCommand::Detach { consent } => ask(SyncAsk::Detach, consent.consent()),
        SyncCommand::Check { tables } => check(app, &session, &name, tables),
        SyncCommand::Resync { tables, keep_orphans, emptied, consent } => {
            let (tables, emptied) = (tables.clone(), emptied.clone());
            ask(SyncAsk::Resync { tables, keep_orphans: *keep_orphans, emptied }, consent.consent())
        }
        SyncCommand::Repair { tables, consent } => ask(SyncAsk::Repair { tables: tables.clone() }, consent.consent()),
        SyncCommand::Widen { tables, consent } => ask(SyncAsk::Widen { tables: tables.clone() }, consent.consent()),
        SyncCommand::Merge { file, consent } => {
            let file = files::absolute(file).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
            ask(SyncAsk::Merge { file }, consent.consent())
        }
        SyncCommand::Confirm { tables, consent } => {
            ask(SyncAsk::ConfirmDeletes { tables: tables.clone() }, consent.consent())
        }
    }
}

/// The emergency levels.
pub fn level(app: &App, args: &LevelArgs) -> Done {
    let session = app.open(&[])?;
    let request = level_asked(&session, args)?;
    let plan = match session.engine.plan(&request) {
        Err(failure) if args.level == 1 => by_variable(app, &session, args, failure)?,
        planned => planned?,
    };
    carry_out(app, &session, &plan, args.consent.consent())
}

/// The app, started again otherwise for a while.
pub fn app_start(app: &App, command: &AppCommand) -> Done {
    let session = app.open(&[])?;
    let AppCommand::Start { node_memory, reason, target, consent } = command;
    let target = target.as_deref().map(ResourceName::new).transpose();
    let target = target.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let about = LevelAsk::Memory { mib: *node_memory, why: reason.clone() };
    let plan = session.engine.plan(&Request::Level { target, link: None, about })?;
    carry_out(app, &session, &plan, consent.consent())
}

/// Level 1 where the mirror's own switch cannot be used: the app's variable, and a start.
fn by_variable(app: &App, session: &Session, args: &LevelArgs, failure: Failure) -> Result<Plan, Failure> {
    let has_variables = session.engine.setup().targets.iter().any(|target| target.env_file.is_some());
    let is_broken = matches!(failure.kind, FailureKind::Outside | FailureKind::Damaged | FailureKind::Bug);
    if args.by_variable || !is_broken || !has_variables {
        return Err(failure);
    }
    app.ui.talk(&format!("The mirror's switch cannot be used: {failure}.\nSYNC_ENABLED=false does the same.\n"));
    session.engine.plan(&level_asked(session, &LevelArgs { by_variable: true, ..args.clone() })?)
}

fn level_asked(session: &Session, args: &LevelArgs) -> Result<Request, Failure> {
    let usage = |message: &str| Failure::new(FailureKind::Usage, message);
    let why = args.reason.clone();
    let of_three = args.local_only || args.hard || args.stable.is_some();
    if (of_three && args.level != 3) || (args.to.is_some() && !matches!(args.level, 3 | 5)) {
        return Err(
            usage("--local-only, --to, --hard and --stable say which way level 3 takes").hint("lifeboat level --help")
        );
    }
    if args.by_variable && args.level != 1 {
        return Err(usage("--by-variable is about level 1").hint("lifeboat level --help"));
    }
    if (args.from.is_some() || !args.without.is_empty()) && args.level != 5 {
        return Err(usage("--from and --without are about level 5").hint("lifeboat level --help"));
    }
    let name = |word: &Option<String>| {
        let name = word.as_deref().map(ResourceName::new).transpose();
        name.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))
    };
    let of_mirror = |about| Ok(Request::Sync { link: link_named(session, args.link.as_deref())?, about });
    let about = match args.level {
        1 if args.by_variable => LevelAsk::Hold { why },
        1 => return of_mirror(SyncAsk::Disable { why }),
        2 => return of_mirror(SyncAsk::Clear { why }),
        4 => return of_mirror(SyncAsk::StartOver { why, emptied: Vec::new() }),
        3 => match (&args.to, &args.stable) {
            (Some(to), _) => LevelAsk::RollBack { to: to.clone(), hard: args.hard, why },
            (None, Some(stable)) => LevelAsk::Stable { to: stable.clone(), why },
            (None, None) => LevelAsk::LocalOnly { why },
        },
        _five => {
            let from = match &args.from {
                Some(start) => BackupChoice::Exactly(session.engine.find_backup(start)?.id),
                None => BackupChoice::Latest,
            };
            let watch = parse_duration(&args.watch).map_err(|error| usage(&error.to_string()).hint("--watch 15m"))?;
            let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
            LevelAsk::Recover { from, to: args.to.clone(), without: args.without.clone(), watch_ms, why }
        }
    };
    Ok(Request::Level { target: name(&args.target)?, link: name(&args.link)?, about })
}

/// The link that is meant.
pub fn link_named(session: &Session, word: Option<&str>) -> Result<ResourceName, Failure> {
    let link = word.map(ResourceName::new).transpose();
    let link = link.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    Ok(session.engine.link(link.as_ref())?.name.clone())
}

fn mirror(session: &Session, link: &ResourceName) -> Result<Mirror, Failure> {
    session.engine.mirror(Some(link))
}

fn document(app: &App, schema: &str, value: &impl serde::Serialize, code: ExitCode) -> Done {
    let mut fields = serde_json::to_value(value)
        .map_err(|error| Failure::new(FailureKind::Bug, "an answer cannot be written").because(error.to_string()))?;
    fields["exit_code"] = Value::from(code as u8);
    app.ui.document(schema, fields)?;
    Ok(code)
}

fn status(app: &App, session: &Session, link: &ResourceName) -> Done {
    let mirror = mirror(session, link)?;
    mirror.look();
    let status = mirror.status()?;
    if app.ui.json.is_some() {
        return document(app, "lifeboat/sync-status@1", &status, ExitCode::Ok);
    }
    app.ui.out(&shown(&status, session))?;
    Ok(ExitCode::Ok)
}

/// The mirror on one screen.
fn shown(status: &SyncStatus, session: &Session) -> String {
    let queue = &status.queue;
    let word = if status.enabled { "delivers" } else { "holds" };
    let mut text = format!("{}: {word} changes ({})\n", status.link, status.reason);
    if !status.attached {
        return text + "The file has no triggers of a mirror yet: lifeboat sync attach\n";
    }
    text += &format!("Waiting      {}", words::count(queue.queue_size, "change", "changes"));
    text += &queue.oldest_ms.map_or_else(String::new, |oldest| {
        format!(
            ", the oldest for {}",
            lifeboat_model::time::show_duration(lifeboat_model::Duration::from_millis(oldest))
        )
    });
    text += match queue.tier {
        Tier::Normal => "\n",
        Tier::Watch => " - more than 100: look why\n",
        Tier::Advise => " - more than 1,000: the queue may be cleared, or mended and left to drain\n",
        Tier::Urge => " - more than 10,000: act now\n",
    };
    text += &format!("Set aside    {} now, {} ever", queue.total_failed, queue.failed_ever);
    text += &match queue.rls_violations {
        0 => "\n".to_owned(),
        rows => format!(", {rows} by a policy of the cloud\n"),
    };
    let last = status.last_sync.map_or_else(|| "never".to_owned(), |at| words::instant(at, &session.zone));
    text += &format!("Last sync    {last}\n");
    if let Some(error) = &status.last_error {
        text += &format!("Last error   {}\n", words::one_line(error));
    }
    for (table, rows) in &status.held_deletes {
        text += &format!("Held         {rows} deletes of {table}: lifeboat sync confirm {table}\n");
    }
    if !status.unverified.is_empty() {
        text += &format!("To compare   {}: lifeboat sync resync\n", status.unverified.join(", "));
    }
    if let Some(resync) = &status.resync {
        text += &format!("Re-sync      {}/{} {}\n", resync.done, resync.total, resync.table);
    }
    text
}

fn trigger(app: &App, session: &Session, link: &ResourceName) -> Done {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let report = mirror(session, link)?.drain(&stop)?;
    if app.ui.json.is_some() {
        return document(app, "lifeboat/sync-cycle@1", &report, ExitCode::Ok);
    }
    app.ui.out(&told(&report))?;
    Ok(ExitCode::Ok)
}

fn told(report: &CycleReport) -> String {
    let mut text = format!(
        "{} delivered: {} written, {} deleted.",
        words::count(report.changes, "change", "changes"),
        report.upserts,
        report.deletes
    );
    if report.took_ms > 0 && report.changes > 0 {
        let seconds = report.took_ms as f64 / 1_000.0;
        text += &format!(" {seconds:.1} s, {:.0} changes a second.", report.changes as f64 / seconds);
    }
    if report.set_aside > 0 {
        text += &format!(" {} set aside: lifeboat sync queue list", words::count(report.set_aside, "row", "rows"));
    }
    if report.held > 0 {
        text += &format!(" {} held: lifeboat sync confirm", words::count(report.held, "delete", "deletes"));
    }
    text + "\n"
}

/// The worker without a daemon: until somebody ends it.
fn keep_running(app: &App, session: &Session, link: &ResourceName) -> Done {
    let stop = Stop::default();
    let _signals = wire::signals(&stop);
    let mut mirror = mirror(session, link)?;
    let _place = mirror.be_worker()?;
    let wait = Duration::from_millis(mirror.link().interval_ms);
    app.ui.talk(&format!("Delivering changes of {link} until it is ended (Ctrl-C).\n"));
    let mut said = String::new();
    while !stop.wanted() {
        if mirror.is_enabled()? && mirror.may_try() {
            let told = match mirror.drain(&stop) {
                Ok(report) if report.changes > 0 => told(&report),
                Ok(_) => String::new(),
                Err(failure) if failure.kind == FailureKind::Interrupted => break,
                Err(failure) => format!("{failure}.\n"),
            };
            // The same trouble is told once.
            if !told.is_empty() && told != said {
                app.ui.talk(&told);
            }
            said = told;
        }
        rest(app, wait, &stop);
    }
    Ok(ExitCode::Ok)
}

/// Waits, and listens meanwhile whether it should end.
fn rest(app: &App, wait: Duration, stop: &Stop) {
    const SLICE: Duration = Duration::from_millis(100);
    let mut left = wait;
    while !left.is_zero() && !stop.wanted() {
        let slice = left.min(SLICE);
        if app.io.clock.sleep(slice, stop).is_err() {
            return;
        }
        left -= slice;
    }
}

fn list(app: &App, session: &Session, link: &ResourceName, limit: u32) -> Done {
    let (entries, letters) = mirror(session, link)?.queue(limit)?;
    if app.ui.json.is_some() {
        let fields = json!({ "entries": entries, "deadLetters": letters });
        return document(app, "lifeboat/sync-queue-list@1", &fields, ExitCode::Ok);
    }
    let key = |key: &std::collections::BTreeMap<String, lifeboat_model::sync::Value>| {
        let parts: Vec<String> = key
            .iter()
            .map(|(name, value)| format!("{name}={}", serde_json::to_string(value).unwrap_or_default()))
            .collect();
        words::one_line(&parts.join(" "))
    };
    let mut table = Table::new(&["CHANGE", "TABLE", "WHAT", "KEY"]).right(&[0]);
    for entry in &entries {
        let op = serde_json::to_value(entry.op).ok().and_then(|word| word.as_str().map(str::to_owned));
        table.row([entry.id.to_string(), entry.table.clone(), op.unwrap_or_default(), key(&entry.key)]);
    }
    match table.is_empty() {
        true => app.ui.talk("Nothing waits.\n"),
        false => app.ui.out(&table.render(""))?,
    }
    if !letters.is_empty() {
        let mut table = Table::new(&["SET ASIDE", "TABLE", "WHY", "KEY", "THE CLOUD SAID"]).right(&[0]);
        for letter in &letters {
            let said = words::one_line(&letter.error);
            table.row([letter.id.to_string(), letter.table.clone(), letter.class.clone(), key(&letter.key), said]);
        }
        app.ui.out(&format!("\n{}", table.render("")))?;
        for hint in letters.iter().map(|letter| letter.hint.as_str()).collect::<std::collections::BTreeSet<_>>() {
            app.ui.talk(&format!("{}.\n", words::sentence(hint).trim_end_matches('.')));
        }
    }
    Ok(ExitCode::Ok)
}

fn save(app: &App, session: &Session, link: &ResourceName, file: &std::path::Path) -> Done {
    if files::exists(file) {
        let failure = Failure::new(FailureKind::Refused, format!("{} is there already", file.display()));
        return Err(failure.hint("name a new file").into());
    }
    let saved = mirror(session, link)?.save_queue(file)?;
    if app.ui.json.is_some() {
        return document(app, "lifeboat/sync-queue-saved@1", &json!({ "saved": file, "count": saved }), ExitCode::Ok);
    }
    app.ui.out(&format!(
        "{} saved in {}; they go on waiting.\n",
        words::count(saved, "change", "changes"),
        file.display()
    ))?;
    Ok(ExitCode::Ok)
}

fn check(app: &App, session: &Session, link: &ResourceName, tables: &[String]) -> Done {
    let compared = watched_by(app, |watch, stop| mirror(session, link)?.compare(tables, watch, stop))?;
    let code = if compared.is_equal() { ExitCode::Ok } else { ExitCode::Damaged };
    if app.ui.json.is_some() {
        return document(app, "lifeboat/sync-check@1", &compared, code);
    }
    app.ui.out(&compared_text(&compared))?;
    Ok(code)
}

fn compared_text(compared: &Compared) -> String {
    let mut table = Table::new(&["TABLE", "ROWS", "MISSING", "DIFFERENT", "ONLY THERE", "CANNOT BE HELD", "WAITING"])
        .right(&[1, 2, 3, 4, 5, 6]);
    for one in &compared.tables {
        let counts = [one.rows, one.missing, one.different, one.orphans, one.unrepresentable, one.not_compared]
            .map(|rows| rows.to_string());
        table.row(std::iter::once(one.table.clone()).chain(counts));
    }
    let mut text = table.render("");
    for one in &compared.tables {
        if let Some(why) = &one.unfit {
            text += &format!("{}: {why}.\n", one.table);
        }
        if !one.keys.is_empty() {
            text += &format!("{}: {}\n", one.table, words::one_line(&one.keys.join("; ")));
        }
        if !one.columns_left_out.is_empty() {
            text += &format!("{}: not compared: {}.\n", one.table, one.columns_left_out.join(", "));
        }
    }
    let is_whole = compared.tables.iter().all(|one| one.not_compared == 0 && one.columns_left_out.is_empty());
    text += match (compared.is_equal(), is_whole) {
        (true, true) => "The cloud holds what the file holds.\n",
        (true, false) => "What was compared is equal.\n",
        (false, _) => "They differ. The file is right: lifeboat sync resync\n",
    };
    text
}
