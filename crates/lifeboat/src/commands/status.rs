//! Where everything stands, on one screen.

use lifeboat_engine::{
    copies::CopyStatus,
    look::{ResourceStatus, Status},
    standing::{Named, OpenDeploy, Standing},
};
use lifeboat_model::{
    ExitCode, Failure, FailureKind, ReleaseState, Tri,
    schedule::{JobStatus, LATE_AFTER},
    time::{Duration, show_age, show_bytes, show_duration, since},
};
use serde_json::Value;

use super::{App, Session};
use crate::{
    cli::StatusArgs,
    error::Done,
    ui::{Paint, words},
};

/// The schema tag of the answer.
const SCHEMA: &str = "lifeboat/status@1";

pub fn run(app: &App, args: &StatusArgs) -> Done {
    let session = app.open(&[])?;
    let status = session.engine.look().status()?;
    let code = match status.good {
        Tri::Unknown | Tri::Fail if args.exit_code => ExitCode::ActionAdvised,
        Tri::Unknown | Tri::Fail | Tri::Pass => ExitCode::Ok,
    };
    if app.ui.json.is_some() {
        let mut fields = serde_json::to_value(&status).map_err(|error| {
            Failure::new(FailureKind::Bug, "the status cannot be written").because(error.to_string())
        })?;
        fields["exit_code"] = Value::from(code as u8);
        app.ui.document(SCHEMA, fields)?;
    } else {
        app.ui.out(&show(app, &session, &status))?;
    }
    Ok(code)
}

fn show(app: &App, session: &Session, status: &Status) -> String {
    let paint = app.ui.paint;
    let now = words::instant(app.io.clock.now(), &session.zone);
    let mut text = format!("{}   {now}\n\n", paint.strong(&status.scope));
    text += &match status.good {
        Tri::Pass => format!("  {}\n", paint.good("All is well.")),
        Tri::Unknown => format!("  {}\n", paint.doubtful("Not all is known.")),
        Tri::Fail => format!("  {}\n", paint.bad("Something needs attention.")),
    };
    for resource in &status.resources {
        text += &show_resource(app, session, resource);
    }
    text += &format!("\n  Vault        {}\n", status.vault);
    for copy in &status.copies {
        text += &show_copy(app, copy);
    }
    for job in &status.schedule {
        text += &show_job(job, &session.zone, paint);
    }
    if let Some(trouble) = &status.vault_trouble {
        text += &format!("               {} {}\n", paint.bad("cannot be read:"), words::sentence(&trouble.to_string()));
        text += &trouble.hint.as_ref().map(|hint| format!("               hint: {hint}\n")).unwrap_or_default();
    }
    text += &show_releases(app, session, &status.releases);
    for one in &status.deadlines {
        let line = words::one_line(&one.sentence(app.io.clock.now()));
        text += &format!("  Due          {}\n", if one.overdue { paint.bad(&line) } else { line });
    }
    for item in &status.open_items {
        text += &format!("  Open         {item}\n");
    }
    for unfinished in &status.unfinished {
        text += &format!("  Not over     {unfinished}\n");
    }
    for at_work in &status.at_work {
        text += &format!("  At work      {at_work}\n");
    }
    for (path, what) in &status.damaged_journals {
        text += &format!("  {} {path}: {}\n", paint.bad("Damaged     "), words::sentence(what));
    }
    text += &format!("\n  Next: {}{}\n", paint.strong(&next(status)), app.again());
    text
}

/// A job in a line: when it runs next, how it went last.
pub fn show_job(job: &JobStatus, zone: &jiff::tz::TimeZone, paint: Paint) -> String {
    let instant = |at| words::instant(at, zone);
    let next = match (job.late_s, job.next) {
        (0, Some(next)) => format!("next {}", instant(next)),
        (_, Some(due)) => format!("due since {}", instant(due)),
        (_, None) => "never again".to_owned(),
    };
    let last = job.last.as_ref().map_or_else(String::new, |run| {
        let late = run.lateness();
        let late = if late > LATE_AFTER { format!(", {} late", show_age(late)) } else { String::new() };
        format!("; last {}{late}", instant(run.began))
    });
    let mut text = format!("  Schedule     {} at \"{}\" ({}): {next}{last}\n", job.name, job.at, job.zone);
    for why in &job.why {
        let mark = if job.good == Tri::Fail { paint.bad("!") } else { paint.doubtful("!") };
        text += &format!("    {mark} {}\n", words::sentence(why));
    }
    text
}

/// What runs, where a rollback goes, what is held, and a deploy that is not over.
fn show_releases(app: &App, session: &Session, standing: &Standing) -> String {
    let (paint, mut text) = (app.ui.paint, String::new());
    let named = |one: &Named| {
        let label = one.label.as_ref().map_or_else(String::new, |label| format!("{} ", words::one_line(label)));
        format!("{label}({}, sealed {})", one.id, words::instant(one.sealed_at, &session.zone))
    };
    if let Some(live) = &standing.live {
        let state = match live.state {
            ReleaseState::Good => paint.good("good"),
            ReleaseState::Bad => paint.bad("BAD, held"),
            ReleaseState::Live | ReleaseState::Candidate | ReleaseState::Retired => {
                paint.doubtful("not known to be good")
            }
        };
        text += &format!("  Release      {} is live, {state}\n", named(live));
        let why = live.why.as_ref().filter(|_| live.state == ReleaseState::Bad);
        text += &why.map(|why| format!("    ! {}\n", words::sentence(why))).unwrap_or_default();
    }
    if let Some(good) = &standing.last_good {
        text += &format!("  Go back      {} is the last known good one\n", named(good));
    }
    for held in &standing.held {
        let why = held.why.as_ref().map(|why| format!(": {}", words::one_line(why))).unwrap_or_default();
        text += &format!("  Held         {}{why}\n", named(held));
    }
    if let Some(open) = &standing.deploy {
        text += &show_deploy(app, open, &named(&open.release));
    }
    text
}

/// Where a deploy stands, which backup belongs to it, and what to type.
fn show_deploy(app: &App, open: &OpenDeploy, named: &str) -> String {
    let id = &open.operation;
    let how = match open.state {
        "turning-back" => "is being taken back",
        "paused" => "waits",
        _running => "is under way, or its process died",
    };
    let mut text = format!("  Deploy       {} of {named} {how} ({id})\n", app.ui.paint.doubtful("NOT OVER:"));
    let lines = [
        ("done", open.done.as_deref()),
        ("at", open.at.as_deref()),
        ("because", open.why.as_deref()),
        ("backup of right before", open.backup.as_ref().map(lifeboat_model::BackupId::as_str)),
    ];
    for (what, value) in lines {
        text += &value.map(|value| format!("    {what}: {}\n", words::one_line(value))).unwrap_or_default();
    }
    text += &match open.past_point_of_no_return {
        true => format!("    it can only be finished: lifeboat resume {id}\n"),
        false => format!("    go on: lifeboat resume {id}; take it back: lifeboat abort {id}\n"),
    };
    text
}

fn show_copy(app: &App, copy: &CopyStatus) -> String {
    let paint = app.ui.paint;
    let held = words::count(copy.backups as u64, "backup", "backups");
    let lag = match (copy.lacks, copy.lag_s) {
        (0, _) => "up to date".to_owned(),
        (lacks, 0) => format!("lacks {lacks}"),
        (lacks, lag) => format!("lacks {lacks}, {} behind", show_age(Duration::from_secs(lag))),
    };
    let mut text = format!("  Copy         {} in {}: {held}, {lag}\n", copy.name, copy.location);
    for why in &copy.why {
        let paint = |text: &str| if copy.good == Tri::Fail { paint.bad(text) } else { paint.doubtful(text) };
        text += &format!("    {} {}\n", paint("!"), words::sentence(why));
    }
    text
}

fn show_resource(app: &App, session: &Session, resource: &ResourceStatus) -> String {
    let paint = app.ui.paint;
    let word = match resource.good {
        Tri::Pass => paint.good("protected"),
        Tri::Unknown => paint.doubtful("not proven"),
        Tri::Fail => paint.bad("NOT PROTECTED"),
    };
    let mut text = format!("\n  {}   {} {}   {word}\n", paint.strong(&resource.name), resource.kind, resource.path);
    for why in &resource.why {
        text += &format!("    ! {}\n", words::sentence(why));
    }
    if let Some(backup) = &resource.newest {
        let age = resource.age_s.map(|seconds| show_age(Duration::from_secs(seconds))).unwrap_or_default();
        let point = words::instant(backup.recovery_point, &session.zone);
        text +=
            &format!("    Backup     {}, {age} old, complete up to {point}, {}\n", backup.id, show_bytes(backup.bytes));
    }
    if let Some(proof) = &resource.proof {
        let age = show_age(since(proof.at, app.io.clock.now()));
        let level = proof.level.map_or("nothing", |level| level.word());
        text += &format!(
            "    Proof      {} of {}, {age} ago, up to \"{level}\"\n",
            words::tri(proof.outcome),
            proof.backup
        );
    }
    if let Some(restore) = &resource.restore {
        let late = show_duration(Duration::from_millis(restore.p95_ms));
        text += &format!("    Restore    {}; nineteen of twenty within {late}\n", words::expected(restore));
    }
    text
}

/// The one command that helps most now.
fn next(status: &Status) -> String {
    // Who goes on with what somebody is doing is refused.
    if !status.at_work.is_empty() {
        return "lifeboat watch".to_owned();
    }
    if !status.unfinished.is_empty() {
        return "lifeboat resume".to_owned();
    }
    if !status.damaged_journals.is_empty() {
        return "lifeboat journal verify".to_owned();
    }
    if status.vault_trouble.is_some() {
        return "lifeboat doctor".to_owned();
    }
    if status.releases.live.as_ref().is_some_and(|live| live.state == ReleaseState::Bad) {
        return "lifeboat rollback --dry-run".to_owned();
    }
    let worst = status.resources.iter().max_by_key(|resource| resource.good);
    match worst {
        None => "lifeboat init".to_owned(),
        Some(resource) if resource.good == Tri::Pass && status.copies.iter().any(|copy| copy.good != Tri::Pass) => {
            "lifeboat vault copy".to_owned()
        }
        Some(resource) if resource.newest.is_none() || resource.good == Tri::Fail => "lifeboat backup".to_owned(),
        Some(resource) if resource.good == Tri::Unknown => "lifeboat prove".to_owned(),
        Some(resource) => format!("lifeboat restore {} --dry-run", resource.name),
    }
}
