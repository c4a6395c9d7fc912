//! `decide`: whether the release is rolled back, by rules and measured facts. `assess`: how far it reaches.

use lifeboat_engine::decide::{Recorded, Said};
use lifeboat_io::Stop;
use lifeboat_model::{
    ExitCode, Failure, FailureKind, Request, Timestamp,
    advice::{Advice, advise},
    decision::{Basis, Decided, Decision, DecisionRecord, Fact, Impact, QuickFix, Rule, Verdict},
    time::{parse_duration, show_age, since},
};
use serde_json::json;

use super::{
    App, Session,
    carry::carry_out_any_way,
    evidence::put_on_record,
    requests::dry,
    rollback::{WAIT, deploy_goes_first, make_way, taken_over},
};
use crate::{
    cli::decisions::{AssessArgs, DecideArgs, YesNo},
    error::Done,
    ui::{when, words},
};

pub fn run(app: &App, args: &DecideArgs) -> Done {
    let session = app.open(&[])?;
    let recorded = session.engine.decisions()?;
    if let Some(operation) = &args.replay {
        let found = recorded
            .iter()
            .find(|one| one.operation.as_str().starts_with(operation.as_str()) && one.decision().is_some());
        let decision = found.and_then(Recorded::decision).ok_or_else(|| {
            Failure::new(FailureKind::Usage, format!("{operation} is no decision of {}", session.engine.setup().scope))
                .hint("lifeboat history")
        })?;
        return replay(app, decision);
    }
    let mut decision = decide(app, &session, args, &recorded)?;
    let is_migration = |(key, _): &(String, String)| key == "migration_failure";
    if decision.verdict() == Verdict::RollBack && decision.decided.matched.iter().any(is_migration) {
        decision.path = Some(session.engine.way_back_of_migrations());
    }
    if !args.run.dry_run {
        let about = DecisionRecord::Decision(Box::new(decision.clone()));
        put_on_record(app, &session, &Request::Decide { about })?;
    }
    if !args.execute || decision.verdict() != Verdict::RollBack {
        return tell(app, &session, &decision);
    }
    if app.ui.json.is_none() {
        tell(app, &session, &decision)?;
    }
    let (why, consent) = (session.engine.may_by_itself(&decision)?, dry(args.run.dry_run));
    match session.engine.standing()?.deploy {
        Some(_open) => deploy_goes_first(app, &session, consent)?,
        // What is refused asks nobody to make way.
        None => drop(session.engine.by_itself(&decision)?),
    }
    let _hold = if consent.dry_run { None } else { Some(make_way(app, &session, &why, WAIT)?) };
    // A deploy goes back as it does by itself: what its migrations hold since is kept.
    if !consent.dry_run
        && let Some(code) = taken_over(app, &session, None, &why)?
    {
        return Ok(code);
    }
    carry_out_any_way(app, &session, &session.engine.by_itself(&decision)?, consent)
}

fn decide(app: &App, session: &Session, args: &DecideArgs, recorded: &[Recorded]) -> Result<Decision, Failure> {
    let now = app.io.clock.now();
    let rules = &session.engine.setup().matrix.rules;
    let detected = args.detected.as_deref().map(|text| when::parse(text, now, &session.zone)).transpose()?;
    let said = Said {
        facts: args.facts.iter().map(|said| said_fact(rules, said)).collect::<Result<_, _>>()?,
        rest_is_fine: args.rest_is_fine,
        detected,
        quick_fix: args.quick_fix,
        instead: args.instead.map(|verdict| (verdict.into(), args.reason.clone().unwrap_or_default())),
        role: args.role.clone().unwrap_or_default(),
        by: app.by(),
    };
    session.engine.decide(said, recorded, now, &Stop::default())
}

fn said_fact(rules: &[Rule], said: &str) -> Result<(String, Fact), Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let keys = || rules.iter().map(|rule| rule.key.as_str()).collect::<Vec<_>>().join(", ");
    let (key, value) = said.split_once('=').unwrap_or((said, ""));
    let rule = rules
        .iter()
        .find(|rule| rule.key == key)
        .ok_or_else(|| usage(format!("no rule speaks of {key:?}")).hint(format!("rules speak of {}", keys())))?;
    if value.is_empty() {
        return Err(
            usage(format!("--fact {key} says nothing")).hint(format!("--fact {key}=yes, =no, =unknown, or a number"))
        );
    }
    let fact = Fact::parse(rule, value).map_err(|why| usage(format!("--fact {said}: {why}")))?;
    Ok((key.to_owned(), fact))
}

/// What a verdict means to a script.
fn code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::RollBack | Verdict::TryFix => ExitCode::ActionAdvised,
        Verdict::Undecided => ExitCode::Unknown,
        Verdict::Stay => ExitCode::Ok,
    }
}

fn tell(app: &App, session: &Session, decision: &Decision) -> Done {
    let (verdict, now) = (decision.verdict(), decision.basis.at);
    let code = code(verdict);
    let next = next(session, decision);
    let advice = of_mirror(session, now)?;
    let code = if code == ExitCode::Ok && !advice.is_empty() { ExitCode::ActionAdvised } else { code };
    if app.ui.json.is_some() {
        let fields = json!({
            "decision": decision, "verdict": verdict, "next": next, "advice": advice, "exit_code": code as u8,
        });
        app.ui.document("lifeboat/decision@1", fields)?;
        return Ok(code);
    }
    let decided = &decision.decided;
    let severity = decided.severity.map_or_else(String::new, |severity| format!(" ({})", severity.word()));
    let mut out = format!("{}{severity}\n", verdict.words().to_uppercase());
    let elapsed = show_age(since(decision.basis.detected, now));
    out += &format!("  noticed   {elapsed} ago\n");
    if let Some(deadline) = decided.deadline.filter(|_| decision.instead.is_none()) {
        let shown = words::instant(deadline, &session.zone);
        let left = if deadline <= now { "now".to_owned() } else { format!("in {}", show_age(since(now, deadline))) };
        out += &format!("  until     {shown}, {left}\n");
    }
    for (key, says) in &decided.matched {
        let fact = decision.basis.facts.get(key);
        let source = fact.map(|fact| fact.source.as_str()).filter(|source| !source.is_empty());
        let of = fact.and_then(|fact| fact.n).map_or_else(String::new, |n| format!(" (n={n})"));
        out += &format!("  holds     {says}{of}{}\n", source.map_or_else(String::new, |source| format!(" - {source}")));
    }
    for missing in &decided.missing {
        out += &format!("  need      {missing}\n");
    }
    for because in &decided.because {
        out += &format!("  because   {because}\n");
    }
    if let Some(path) = &decision.path {
        out += &format!("  way back  {}: {}\n", path.way, words::one_line(&path.why));
    }
    if let Some((_, why)) = &decision.instead {
        out += &format!("  a person decided otherwise than the rules ({}): {why}\n", decided.verdict.words());
    }
    for next in &next {
        out += &format!("  next      {next}\n");
    }
    for one in &advice {
        let level = one.level.map_or_else(String::new, |level| format!("level {level}: "));
        out += &format!("  mirror    {level}{}; {}\n", words::one_line(&one.because), one.command);
    }
    app.ui.out(&out)?;
    Ok(code)
}

/// What the mirror's own limits say, where there is one: the emergency levels are decided by the same measured facts.
fn of_mirror(session: &Session, now: Timestamp) -> Result<Vec<Advice>, Failure> {
    if session.engine.setup().links.len() != 1 {
        return Ok(Vec::new());
    }
    let mut measured = session.engine.measure(None)?;
    // Whether the app works is the other rules' business.
    measured.app = None;
    Ok(advise(&measured, now))
}

/// What to type next.
fn next(session: &Session, decision: &Decision) -> Vec<String> {
    let environment = &session.engine.setup().scope.environment;
    let holds = |key: &str| decision.decided.matched.iter().any(|(matched, _)| matched == key);
    let mut next = Vec::new();
    match decision.verdict() {
        Verdict::RollBack => {
            next.push(format!("lifeboat rollback --env {environment} --dry-run, then without --dry-run"));
        }
        Verdict::TryFix => {
            next.push(
                "mend it, then: lifeboat decide --fact KEY=no; when the time is over: lifeboat decide".to_owned(),
            );
        }
        Verdict::Undecided => next.push("find out, then: lifeboat decide --fact KEY=VALUE".to_owned()),
        Verdict::Stay => {}
    }
    if holds("migration_failure") {
        next.push(
            "lifeboat migrate status: what was applied in part goes back by its DOWN scripts, not by a restore"
                .to_owned(),
        );
    }
    if holds("security_breach") {
        // Going back must not bring leaked values back.
        next.push("change the secrets; each old value: lifeboat backups compromised NAME --reason '...'".to_owned());
    }
    next
}

fn replay(app: &App, then: &Decision) -> Done {
    let now = then.basis.decide();
    let same = now == then.decided;
    let code = if same { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({ "then": then, "again": now, "same": same, "exit_code": code as u8 });
        app.ui.document("lifeboat/decision-replay@1", fields)?;
        return Ok(code);
    }
    let line = |decided: &Decided| {
        let keys: Vec<&str> = decided.matched.iter().map(|(key, _)| key.as_str()).collect();
        let by = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        format!("{}, by {by}", decided.verdict.words())
    };
    let mut out = String::new();
    for (key, fact) in &then.basis.facts {
        let source = if fact.source.is_empty() { String::new() } else { format!(" - {}", fact.source) };
        out += &format!("  {key:<24} {fact}{source}\n");
    }
    out += &match same {
        true => format!("It comes out the same: {}.\n", line(&now)),
        false => format!("It was: {}. By the same facts it is now: {}.\n", line(&then.decided), line(&now)),
    };
    if let Some((verdict, why)) = &then.instead {
        out += &format!("A person decided otherwise: {}; {why}\n", verdict.words());
    }
    app.ui.out(&out)?;
    Ok(code)
}

pub fn assess(app: &App, args: &AssessArgs) -> Done {
    let session = app.open(&[])?;
    let now = app.io.clock.now();
    let detected = match &args.detected {
        Some(text) => when::parse(text, now, &session.zone)?,
        None => session.engine.noticed(now, None)?,
    };
    let impact = form(&session, args, detected, now)?;
    let unset = impact.unset();
    let late = since(detected, now).as_secs() > Impact::LIMIT_S;
    if !args.run.dry_run {
        let about = DecisionRecord::Impact { detected, impact: impact.clone() };
        put_on_record(app, &session, &Request::Decide { about })?;
    }
    let code = if unset.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields =
            json!({ "impact": impact, "detected": detected, "unset": unset, "late": late, "exit_code": code as u8 });
        app.ui.document("lifeboat/impact@1", fields)?;
        return Ok(code);
    }
    let or_not = |value: Option<String>| value.unwrap_or_else(|| "not said".to_owned());
    let quick_fix = impact.quick_fix.map(|fix| match fix {
        QuickFix::No => "no".to_owned(),
        QuickFix::Takes(time) => format!("yes, {}", lifeboat_model::time::show_duration(time)),
    });
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut out = String::new();
    for (field, value) in [
        ("Severity", impact.severity.map(|severity| severity.word().to_owned())),
        ("Users affected", impact.users_affected.map(|percent| format!("{percent} %"))),
        ("Systems", impact.systems.as_ref().map(|systems| systems.join(", "))),
        ("Data at risk", impact.data_at_risk.map(yes_no)),
        ("Quick fix", quick_fix),
    ] {
        out += &format!("{field:<16}{}\n", or_not(value));
    }
    if late {
        out += "Noticed more than 5 minutes ago: decide by what is known.\n";
    }
    out += "Next: lifeboat decide\n";
    app.ui.out(&out)?;
    Ok(code)
}

/// The form: what was said, and what can be seen.
fn form(session: &Session, args: &AssessArgs, detected: Timestamp, now: Timestamp) -> Result<Impact, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let users_affected = args.users.as_deref().map(|text| {
        let number = text.trim_end_matches('%').trim().parse().map_err(&usage)?;
        let all = lifeboat_model::decision::Number::whole(100);
        match number <= all && number >= lifeboat_model::decision::Number::whole(0) {
            true => Ok(number),
            false => Err(usage(format!("{text} is not between 0 and 100 percent"))),
        }
    });
    let quick_fix = args.quick_fix.as_deref().map(|text| match text {
        "no" => Ok(QuickFix::No),
        time => parse_duration(time).map(QuickFix::Takes).map_err(|error| usage(error.to_string())),
    });
    let seen = || {
        let facts = session.engine.measure_facts(&Stop::default());
        let rules = session.engine.setup().matrix.rules.clone();
        Basis { rules, facts, detected, at: now, quick_fix: None, fix_begun: None, planned: None }.decide().severity
    };
    Ok(Impact {
        severity: args.severity.map(Into::into).or_else(seen),
        users_affected: users_affected.transpose()?,
        systems: args.systems.clone(),
        data_at_risk: args.data_at_risk.map(|answer| answer == YesNo::Yes),
        quick_fix: quick_fix.transpose()?,
    })
}
