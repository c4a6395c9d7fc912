//! `lifeboat schedule`: what the daemon does by itself, and what another scheduler has to run where no daemon does it.

use std::path::Path;

use lifeboat_engine::rehearsals;
use lifeboat_model::{ExitCode, Failure, FailureKind, Scope, Tri};
use serde_json::json;

use super::{App, Session, status::show_job};
use crate::{
    cli::exports::{ScheduleCommand, SchedulerArg},
    error::Done,
    ui::words::quoted,
};

/// Something that runs once a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name, for a unit.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The hour, in the scheduler's zone.
    pub hour: u8,
    /// What runs, one after the other, each only when the one before went well.
    pub commands: Vec<Vec<String>>,
}

pub fn run(app: &App, command: &ScheduleCommand) -> Done {
    let session = app.open(&[])?;
    match command {
        ScheduleCommand::List => list(app, &session),
        ScheduleCommand::Show { format } => show(app, &session, *format),
    }
}

fn list(app: &App, session: &Session) -> Done {
    let jobs = session.engine.jobs()?;
    let code = if jobs.iter().all(|job| job.good == Tri::Pass) { ExitCode::Ok } else { ExitCode::ActionAdvised };
    // What only people can begin, each quarter, where versions are put in use.
    let rehearsal = match session.engine.setup().targets.iter().any(|target| target.driver.is_some()) {
        true => Some(rehearsals::due(&session.engine.rehearsals()?, app.io.clock.now())),
        false => None,
    };
    if app.ui.json.is_some() {
        let rehearsal = rehearsal.map(|(says, due)| json!({ "every": "quarter", "due": due, "says": says }));
        app.ui.document("lifeboat/jobs@1", json!({ "jobs": jobs, "rehearsal": rehearsal, "exit_code": code as u8 }))?;
        return Ok(code);
    }
    if jobs.is_empty() {
        app.ui.talk("Nothing happens by itself: lifeboat.toml has no [schedule].\n");
    }
    for job in &jobs {
        app.ui.out(&show_job(job, &session.zone, app.ui.paint))?;
    }
    if let Some((says, _)) = rehearsal {
        app.ui.out(&format!(
            "A rollback is rehearsed every quarter, in staging: lifeboat rehearse rollback --env staging. {says}\n"
        ))?;
    }
    Ok(code)
}

fn show(app: &App, session: &Session, format: SchedulerArg) -> Done {
    let setup = session.engine.setup();
    let Some(settings) = &setup.settings_file else {
        let failure =
            Failure::new(FailureKind::Refused, "a schedule needs a settings file, so that it finds everything again");
        return Err(failure.hint("lifeboat init").into());
    };
    let failed = |error: std::io::Error| Failure::from_error(FailureKind::Outside, &error);
    let program = std::env::current_exe().map_err(failed)?;
    let jobs = jobs(&program, settings, &setup.scope);
    if app.ui.json.is_some() {
        let jobs = jobs.iter().map(|job| json!({ "name": job.name, "cron": cron(job), "commands": job.commands }));
        let jobs: Vec<_> = jobs.collect();
        app.ui.document("lifeboat/schedule@1", json!({ "scope": setup.scope.to_string(), "jobs": jobs }))?;
        return Ok(ExitCode::Ok);
    }
    app.ui.out(&match format {
        SchedulerArg::Crontab => crontab(&jobs, &setup.scope),
        SchedulerArg::Systemd => systemd(&jobs, &setup.scope),
    })?;
    app.ui
        .talk("Nothing was installed. `lifeboat serve` does all this by itself when lifeboat.toml has a [schedule].\n");
    Ok(ExitCode::Ok)
}

/// The jobs of one environment.
pub fn jobs(program: &Path, settings: &Path, scope: &Scope) -> Vec<Job> {
    let command = |words: &[&str]| {
        let mut all = vec![program.display().to_string()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.extend(["--quiet", "--config"].map(str::to_owned));
        all.push(settings.display().to_string());
        all.extend(["--env".to_owned(), scope.environment.clone()]);
        all
    };
    let confirm = scope.to_string();
    vec![
        Job {
            name: "backup",
            about: "a backup, verified",
            hour: 2,
            commands: vec![command(&["backup", "--reason", "scheduled"])],
        },
        Job {
            name: "retention",
            about: "backups that no rule keeps go off the list",
            hour: 3,
            commands: vec![command(&["retention", "apply", "--yes"])],
        },
        Job {
            name: "prove",
            about: "the newest backup is restored and looked at; when it is good, space that no backup needs is freed",
            hour: 4,
            commands: vec![command(&["prove"]), command(&["vault", "prune", "--confirm", &confirm])],
        },
    ]
}

fn cron(job: &Job) -> String {
    format!("0 {} * * *", job.hour)
}

/// Lines of a crontab. `%` would end the command and begin its input.
pub fn crontab(jobs: &[Job], scope: &Scope) -> String {
    let mut text = format!(
        "# {scope}, made by `lifeboat schedule show`. `lifeboat serve` needs none of it.\n\
         # Times are in cron's zone. cron knows nothing of your shell's variables: the vault's password has to come from a\n\
         # file or a command, see `password` in lifeboat.toml. cron mails what a command says when it goes wrong.\n"
    );
    for job in jobs {
        let commands = job
            .commands
            .iter()
            .map(|words| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ").replace('%', "\\%"));
        text += &format!("# {}\n{} {}\n", job.about, cron(job), commands.collect::<Vec<_>>().join(" && "));
    }
    text
}

/// Units of systemd, each with the file it belongs into.
pub fn systemd(jobs: &[Job], scope: &Scope) -> String {
    let mut text = format!(
        "# {scope}, made by `lifeboat schedule show`. `lifeboat serve` needs none of it.\n\
         # Write each part into the file named above it, then: systemctl daemon-reload && systemctl enable --now NAME.timer\n"
    );
    for job in jobs {
        let name = format!("lifeboat-{}-{}-{}", scope.app, scope.environment, job.name);
        let about = format!("Lifeboat, {scope}: {}", job.about);
        text += &format!(
            "\n# /etc/systemd/system/{name}.service\n[Unit]\nDescription={about}\n\n[Service]\nType=oneshot\n"
        );
        for words in &job.commands {
            let words: Vec<String> = words.iter().map(|word| unit_word(word)).collect();
            text += &format!("ExecStart={}\n", words.join(" "));
        }
        text += &format!(
            "\n# /etc/systemd/system/{name}.timer\n[Unit]\nDescription={about}\n\n[Timer]\n\
             OnCalendar=*-*-* {:02}:00:00\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n",
            job.hour
        );
    }
    text
}

/// A word as a unit takes it: `%` and `$` mean something there, quotes and backslashes as in C.
fn unit_word(word: &str) -> String {
    let escaped = word.replace('%', "%%").replace('$', "$$");
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=@,+%$".contains(letter);
    if !escaped.is_empty() && escaped.chars().all(plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd() -> (Vec<Job>, Scope) {
        let scope = Scope { app: "shop".into(), environment: "production".into() };
        let jobs = jobs(Path::new("/usr/bin/lifeboat"), Path::new("/srv/100% \"it's\"/lifeboat.toml"), &scope);
        (jobs, scope)
    }

    #[test]
    fn percent_signs_are_escaped_in_a_crontab() {
        let (jobs, scope) = odd();
        let text = crontab(&jobs, &scope);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let times: Vec<&str> = lines.iter().map(|line| &line[..9]).collect();
        assert_eq!(times, ["0 2 * * *", "0 3 * * *", "0 4 * * *"]);
        let config = "'/srv/100\\% \"it'\\''s\"/lifeboat.toml'";
        let expected =
            format!("0 2 * * * /usr/bin/lifeboat backup --reason scheduled --quiet --config {config} --env production");
        assert_eq!(lines[0], expected);
    }

    #[test]
    fn percent_signs_and_quotes_are_escaped_in_a_unit() {
        let (jobs, scope) = odd();
        let text = systemd(&jobs, &scope);
        assert!(text.contains("--config \"/srv/100%% \\\"it's\\\"/lifeboat.toml\" --env"), "{text}");
        for time in ["02:00:00", "03:00:00", "04:00:00"] {
            assert!(text.contains(&format!("OnCalendar=*-*-* {time}\n")), "{text}");
        }
    }
}
