//! `advise`: which emergency level, by a symptom in words or by what is measured.

use lifeboat_model::{
    ExitCode, Failure, FailureKind, ResourceName,
    advice::{Advice, Risk, Symptom, Urgency, advise},
    sync::{SyncStatus, Tier},
    time::{Duration, show_duration},
};
use serde_json::json;

use super::App;
use crate::{cli::sync::AdviseArgs, error::Done, ui::table::Table};

pub fn run(app: &App, args: &AdviseArgs) -> Done {
    if args.list {
        let all: Vec<Advice> = Symptom::ALL.into_iter().map(|one| one.advice(Urgency::Advise, one.words())).collect();
        if app.ui.json.is_some() {
            app.ui.document("lifeboat/advice@1", json!({ "advice": all, "exit_code": 0 }))?;
        } else {
            app.ui.out(&quick_reference(&all))?;
        }
        return Ok(ExitCode::Ok);
    }
    let symptom = args.symptom.join(" ");
    let (advice, status, note) = match symptom.trim() {
        "" => measured(app, args)?,
        words => (vec![said(app, args, words)?], None, None),
    };
    let code = if advice.is_empty() { ExitCode::Ok } else { ExitCode::ActionAdvised };
    if app.ui.json.is_some() {
        let fields = json!({ "advice": advice, "status": status, "note": note, "exit_code": code as u8 });
        app.ui.document("lifeboat/advice@1", fields)?;
        return Ok(code);
    }
    for one in &advice {
        app.ui.out(&shown(one))?;
    }
    if advice.is_empty() {
        app.ui.out("Nothing that was looked at asks for anything.\n")?;
    }
    app.ui.talk(&note.unwrap_or_default());
    Ok(code)
}

/// Advice, the mirror that it is about, and what was not looked at.
type Found = (Vec<Advice>, Option<SyncStatus>, Option<String>);

fn measured(app: &App, args: &AdviseArgs) -> Result<Found, Failure> {
    let session = app.open(&[])?;
    let measured = session.engine.measure(link(args)?.as_ref())?;
    let advice = advise(&measured, app.io.clock.now());
    let note = match (&measured.mirror, &measured.app) {
        (None, _) => Some("Not looked at: a mirror, since there is none.\n".to_owned()),
        (_, None) => Some("Not looked at: whether the app works, since no target has url and probes.\n".to_owned()),
        _ => None,
    };
    Ok((advice, measured.mirror.and_then(Result::ok), note))
}

/// What somebody says, with what can be measured beside it. Advice is given without any settings, too.
fn said(app: &App, args: &AdviseArgs, words: &str) -> Result<Advice, Failure> {
    let Some(symptom) = Symptom::of(words) else {
        let known: Vec<&str> = Symptom::ALL.into_iter().map(Symptom::words).collect();
        let failure = Failure::new(FailureKind::Usage, format!("nobody here knows what to do about \"{words}\""));
        return Err(failure.hint(format!("one of: {}; or lifeboat advise alone, which measures", known.join(", "))));
    };
    let link = link(args)?;
    let status = app.open(&[]).ok().and_then(|session| session.engine.mirror(link.as_ref()).ok()?.status().ok());
    let mut advice = symptom.advice(Urgency::Advise, words);
    if let (Symptom::QueueGrowing, Some(status)) = (symptom, status) {
        let waiting = status.queue.queue_size;
        advice.because = format!("{words}: {waiting} changes wait");
        match status.queue.tier {
            Tier::Normal | Tier::Watch => {
                advice.urgency = Urgency::Watch;
                advice.because += "; up to 1,000 are no reason to clear them, so level 2 asks for one";
            }
            Tier::Advise => {}
            Tier::Urge => advice.urgency = Urgency::Urge,
        }
    }
    Ok(advice)
}

fn link(args: &AdviseArgs) -> Result<Option<ResourceName>, Failure> {
    let link = args.link.as_deref().map(ResourceName::new).transpose();
    link.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))
}

fn risk_word(risk: Risk) -> &'static str {
    match risk {
        Risk::None => "none",
        Risk::Low => "low",
        Risk::Medium => "medium",
    }
}

fn time(advice: &Advice) -> String {
    match advice.budget_s {
        Some(seconds) => format!("< {}", show_duration(Duration::from_secs(seconds))),
        None => "automatic".to_owned(),
    }
}

fn shown(advice: &Advice) -> String {
    let how_soon = match advice.urgency {
        Urgency::Watch => "Have an eye on it",
        Urgency::Advise => "Advised",
        Urgency::Urge => "Now",
    };
    let level = advice.level.map_or_else(String::new, |level| format!("level {level}: "));
    let mut text = format!("{}: {}.\n", advice.symptom.words(), advice.because);
    text += &format!("  {how_soon}: {level}{}\n  $ {}\n", advice.action, advice.command);
    if advice.level.is_some() {
        text += &format!("  Takes {}; risk: {}\n", time(advice), risk_word(advice.risk));
    }
    text += &advice.safer.as_ref().map_or_else(String::new, |safer| format!("  Safer: {safer}\n"));
    text
}

fn quick_reference(all: &[Advice]) -> String {
    let mut table = Table::new(&["SYMPTOM", "LEVEL", "TIME", "RISK", "TYPE"]);
    for one in all {
        let level = one.level.map_or_else(|| "-".to_owned(), |level| level.to_string());
        let risk = risk_word(one.risk).to_owned();
        table.row([one.symptom.words().to_owned(), level, time(one), risk, one.command.clone()]);
    }
    table.render("")
}
