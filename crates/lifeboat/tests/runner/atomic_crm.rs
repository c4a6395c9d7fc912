//! The example that is deployed by a script with an automatic way back, and rolled back by hand when that was not enough.

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::center::{Center, ask};

/// Version 1.0 runs; 2.0 adds the stages of opportunities.
pub(crate) fn crm() -> Center {
    let crm = Center::of("atomic-crm", "3026", "DATABASE_URL_PRODUCTION");
    crm.shell(
        "git init --quiet --initial-branch=main . && mkdir ../later && mv supabase/migrations/20251104* ../later",
    );
    crm.shell("git add . && git commit --quiet -m 1.0 && git tag v1");
    crm.use_version("v1");
    crm.shell("mv ../later/* supabase/migrations && echo 2.0 > VERSION && git add . && git commit --quiet -m 2.0 && git tag v2");
    crm
}

pub(crate) fn health(crm: &Center) -> Value {
    let (status, body) = ask(crm.port, "GET", "/health", "").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Everything that the database holds, by its definitions and its rows.
fn content(crm: &Center) -> String {
    let rows = crm.sql(
        "SELECT md5(string_agg(c::text, ',' ORDER BY id)) FROM contacts c UNION ALL \
         SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM opportunities p UNION ALL \
         SELECT string_agg(version, ' ' ORDER BY version) FROM schema_migrations",
    );
    let definitions =
        crm.shell("pg_dump --schema-only --restrict-key=a \"$(grep -oP 'PRODUCTION=\\K.*' .env)\" | grep -v '^--'");
    format!("{rows}\n{definitions}")
}

/// A version with a migration of its own: name, what goes up, what goes down.
fn version(crm: &Center, tag: &str, (name, up, down): (&str, &str, &str)) {
    crm.home.write(&format!("supabase/migrations/{name}.sql"), up);
    crm.home.write(&format!("supabase/migrations/{name}_DOWN.sql"), down);
    crm.shell(&format!("echo {tag} > VERSION && git add . && git commit --quiet -m {tag} && git tag {tag}"));
}

pub(crate) fn run(crm: &Center, words: &[&str]) -> crate::home::Ran {
    crm.run(&[&["--env", "production"], words].concat())
}

fn deploy(crm: &Center, words: &str) -> crate::home::Ran {
    crm.script(&format!("scripts/migration/deploy-safe.sh {words} --watch 2s --yes"))
}

/// PHS-17: backup, migrate, validate. What fails to migrate, and what does not pass `db:validate:all`, leaves application and database as
/// they were; when going back fails too, the script says so, how it stands, and what to type next.
#[test]
fn phs_17_a_deploy_that_does_not_do_leaves_the_database_as_it_was() {
    let crm = crm();
    crm.script("scripts/validation/validate-all.sh").ends(ExitCode::Ok).says(&["score: 100 %", "GO"]);
    deploy(&crm, "v2").ends(ExitCode::Ok);
    assert_eq!(health(&crm)["version"], "2.0");
    let before = content(&crm);

    version(
        &crm,
        "v3",
        (
            "20251105000000_broken",
            "ALTER TABLE contacts ADD COLUMN half int; SELECT 1 / 0;",
            "ALTER TABLE contacts DROP COLUMN half;",
        ),
    );
    let failed = deploy(&crm, "v3");
    assert_ne!(failed.code, Some(0));
    failed.says(&["division by zero", "deploy-safe: not deployed; database and application are as they were"]);
    assert_eq!((content(&crm), &health(&crm)["version"]), (before, &"2.0".into()));
    crm.shell("git reset --quiet --hard v2");

    // 80 of 100 contacts can be written to, and 85 are wanted: what is deployed on that does not pass.
    crm.sql("UPDATE contacts SET email = NULL WHERE id <= 8");
    crm.script("scripts/validation/validate-all.sh").ends(ExitCode::Damaged).says(&["80.00", "NO-GO"]);
    let before = content(&crm);
    version(
        &crm,
        "v4",
        (
            "20251106000000_owner",
            "ALTER TABLE opportunities ADD COLUMN owner text;",
            "ALTER TABLE opportunities DROP COLUMN owner;",
        ),
    );
    deploy(&crm, "v4").ends(ExitCode::FailedUndone).says(&["deploy-safe: not deployed"]);
    assert_eq!((content(&crm), &health(&crm)["version"]), (before.clone(), &"2.0".into()));
    // It is held; a late run of a pipeline does not put it back.
    deploy(&crm, "v4").ends(ExitCode::Refused).says(&["is held for bad"]);

    // The way back fails too: the former version does not answer any more.
    let settings = std::fs::read_to_string(crm.home.path("lifeboat.toml")).unwrap();
    let worse = "smoke = [\"sh\", \"-c\", \"mv releases/$(git rev-parse v2)/VERSION kept; exit 1\"]";
    crm.home
        .write("lifeboat.toml", settings.replace("smoke = [\"sh\", \"scripts/validation/validate-all.sh\"]", worse));
    let manual = deploy(&crm, "v4 --although-bad 'once more'");
    manual.ends(ExitCode::InBetween).says(&["deploy-safe: MANUAL", "lifeboat resume", "lifeboat rollback --manual"]);
}

/// PHS-16: without running a deployment, in an emergency, step by step, to a state that is not the one right before.
#[test]
fn phs_16_an_older_state_comes_back_by_hand() {
    let crm = crm();
    run(&crm, &["checkpoint", "--label", "v1"]).ends(ExitCode::Ok);
    deploy(&crm, "v2").ends(ExitCode::Ok);
    version(
        &crm,
        "v3",
        (
            "20251106000000_owner",
            "ALTER TABLE opportunities ADD COLUMN owner text;",
            "ALTER TABLE opportunities DROP COLUMN owner;",
        ),
    );
    deploy(&crm, "v3").ends(ExitCode::Ok);
    assert_eq!(health(&crm)["version"], "v3");
    let (status, body) =
        ask(crm.port, "POST", "/contacts", "{\"name\": \"Late\", \"email\": \"late@example.org\"}").unwrap();
    assert_eq!(status, 201, "{body}");

    run(&crm, &["rollback", "v1", "--dry-run"]).ends(ExitCode::Ok).says(&["app-and-down: this one"]);
    let confirm = ["--yes", "--confirm", "atomic-crm/production"];
    let manual = |words: &[&str]| run(&crm, &[&["rollback"], words, &["--manual"], &confirm[..]].concat());
    manual(&["v1", "--to", "3"]).ends(ExitCode::Interrupted).says(&["--manual --from 5"]);
    assert!(ask(crm.port, "GET", "/health", "").is_none(), "it is stopped");
    let waiting = run(&crm, &["status"]);
    waiting.says(&["lifeboat resume"]);
    manual(&["--from", "4"]).ends(ExitCode::Interrupted).says(&["the pre-rollback checklist is not done"]);
    for (point, note) in [("notified", "by phone"), ("tested", "in local, yesterday")] {
        run(&crm, &["checklist", "attest", "pre-rollback", point, "--note", note]).ends(ExitCode::Ok);
    }
    manual(&["--from", "5"]).ends(ExitCode::Ok);
    assert_eq!(health(&crm)["version"], "1.0");
    assert_eq!(crm.sql("SELECT string_agg(version, ' ') FROM schema_migrations"), "20251101000000");
    // Nothing was restored: what was written since stays.
    assert_eq!(crm.sql("SELECT count(*) FROM contacts WHERE email = 'late@example.org'"), "1");
    crm.script("scripts/validation/validate-all.sh").ends(ExitCode::Ok).says(&["GO"]);
}
