//! What a person can type in place of a step: the same plan, without Lifeboat. Commands need a shell, `psql`, `pg_dump`, `restic`,
//! `sqlite3`, `curl` and the platform's own program; each by itself, in the order of the plan, in one shell.

use std::path::Path;

use lifeboat_io::{Env, database::postgres::Address};
use lifeboat_model::{
    Action, Brings, Content, Driver, Manifest, PgAction, ReleaseRecord, Resource, ResourceKind, Target, TargetAction,
    target::{self, Asked, Question, tcp_place},
};

use crate::kit::quote;

/// The folder in which everything lies on its way.
pub const WORK: &str = "./rollback-by-hand";

/// What is typed for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByHand {
    /// These commands.
    Type(Vec<String>),
    /// Nothing: another step's commands do it, or a person remembers it.
    Covered(&'static str),
    /// Nobody should do this without Lifeboat; what to do instead.
    Not(&'static str),
}

/// What is known beside the plan.
pub struct Around<'a> {
    /// Variables, for addresses of databases.
    pub env: &'a dyn Env,
    /// What is in the backup that the plan restores, when it restores one.
    pub manifest: Option<&'a Manifest>,
}

/// What is typed for an action.
pub fn by_hand(action: &Action, around: &Around<'_>) -> ByHand {
    match action {
        Action::Target { target, action } => of_target(target, action),
        Action::Postgres(action) => of_postgres(action, around),
        Action::CheckBackup { backup, .. } => ByHand::Type(vec![
            format!("restic snapshots --tag {}", quote(&format!("id={backup}"))),
            "restic check".into(),
        ]),
        Action::CheckSpace { path, .. } => ByHand::Type(vec![format!("df -h {}", shown(existing(path)))]),
        Action::CaptureSqlite { .. } => ByHand::Covered("the next commands copy it as well"),
        Action::StoreBackup { parts, .. } => {
            ByHand::Type(parts.iter().flat_map(|part| emergency(&part.resource, around)).collect())
        }
        Action::VerifyStored { .. } => ByHand::Type(vec![format!("ls -l {WORK}/emergency-*")]),
        Action::CreateVault { .. } => ByHand::Covered("copies go into a folder here"),
        Action::Release(record) => {
            ByHand::Type(vec![format!("echo \"$(date -u +%FT%TZ) {}\" >> {WORK}/notes.txt", what_is_recorded(record))])
        }
        Action::Notify { channels, notice } => {
            let to: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
            ByHand::Type(vec![format!(
                "echo {}        # tell it by hand to: {}",
                quote(&notice.subject),
                to.join(", ")
            )])
        }
        Action::Due { items } => ByHand::Type(
            items
                .iter()
                .map(|item| format!("echo {} >> {WORK}/notes.txt", quote(&format!("due: {}", item.title))))
                .collect(),
        ),
        Action::Feature(seen) => match &seen.probe {
            Some(url) => ByHand::Type(vec![format!("curl -sS -o /dev/null -w '%{{http_code}}' {}", quote(url))]),
            None => ByHand::Covered("nothing is done"),
        },
        Action::Say { .. } => ByHand::Covered("nothing is done"),
        Action::Command { argv, .. } => ByHand::Type(vec![typed(argv)]),
        _other => ByHand::Not("there is no command for it that is safe by hand"),
    }
}

/// A path that can be asked about its disk.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|at| lifeboat_io::files::exists(at)).unwrap_or(path)
}

fn shown(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// Words as one types them.
pub(crate) fn typed(argv: &[String]) -> String {
    argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn within(folder: &Path, argv: &[String]) -> String {
    format!("(cd {} && {})", shown(folder), typed(argv))
}

fn what_is_recorded(record: &ReleaseRecord) -> String {
    let name =
        |id: &Option<lifeboat_model::ReleaseId>| id.as_ref().map_or("what ran before".to_owned(), ToString::to_string);
    match record {
        ReleaseRecord::Live { release, bad: Some(bad), .. } => format!("{} is live, {bad} is bad", name(release)),
        ReleaseRecord::Live { release, .. } => format!("{} is live", name(release)),
        ReleaseRecord::Seal { release, .. } => format!("{} is sealed", release.id),
        ReleaseRecord::Mark { release, state, .. } => format!("{release} is {}", state.word()),
        ReleaseRecord::Deploy { release, .. } => format!("{} is being deployed", release.id),
    }
}

// ---- the application

fn of_target(target: &Target, action: &TargetAction) -> ByHand {
    let place = |version: &str| {
        let (releases, _) = target.driver.as_ref()?.places()?;
        Some(shown(&releases.join(version)))
    };
    match action {
        TargetAction::CheckRuns { version } => {
            let line = match target.driver.as_ref().map(|driver| (driver.running(), driver.places())) {
                Some((_, Some((_, current)))) => format!("basename \"$(readlink {})\"", shown(current)),
                Some((Some(argv), None)) => within(&target.folder, &argv),
                _nobody_said => return ByHand::Covered("nobody has said how its version is told"),
            };
            ByHand::Type(vec![format!("{line}        # {version}")])
        }
        TargetAction::Stage { version, origin } => {
            ByHand::Type(staged(target, version, origin.as_deref(), place(version)))
        }
        TargetAction::NoteInstance => {
            let mut lines: Vec<String> = told(target).map(|ask| format!("{ask} || true")).into_iter().collect();
            let instances = target.driver.as_ref().and_then(Driver::instances);
            lines.extend(
                instances.map(|argv| format!("{} || true", within(&target.folder, &secret_free(target, argv)))),
            );
            match lines.is_empty() {
                true => ByHand::Covered("nobody has said how an instance is told"),
                false => ByHand::Type(lines),
            }
        }
        TargetAction::KeepEvidence => {
            let name = &target.name;
            let calls = target.driver.as_ref().map(Driver::evidence).unwrap_or_default();
            let calls = calls
                .into_iter()
                .map(|(file, argv)| format!("{} > {WORK}/{name}-{file} 2>&1 || true", within(&target.folder, &argv)));
            let log = target.log.as_ref().map(|log| format!("cp {} {WORK}/{name}-app.log || true", shown(log)));
            let lines: Vec<String> = calls.chain(log).collect();
            match lines.is_empty() {
                true => ByHand::Covered("nobody has said where its log is"),
                false => ByHand::Type(lines),
            }
        }
        TargetAction::Stop => {
            ByHand::Type(target.stop_call().iter().map(|argv| within(&target.folder, argv)).collect())
        }
        TargetAction::Start => {
            ByHand::Type(target.start_call().iter().map(|argv| within(&target.folder, argv)).collect())
        }
        TargetAction::Run { folder, argv, .. } => ByHand::Type(vec![within(folder, argv)]),
        TargetAction::Quiet => match told(target) {
            Some(ask) => ByHand::Type(vec![bounded(10, &format!("! {ask} > /dev/null 2>&1"))]),
            None => ByHand::Covered("nobody has said where it answers"),
        },
        TargetAction::Switch { version, back } => ByHand::Type(switched(target, version, *back, place(version))),
        TargetAction::NewInstance { version, limit_ms, .. } => {
            let mut lines = Vec::new();
            if let Some(ask) = told(target) {
                let wanted = version.as_deref().unwrap_or_default();
                lines.push(bounded(limit_ms / 1_000, &format!("{ask} | grep -F -- {}", quote(wanted))));
            }
            let instances = target.driver.as_ref().and_then(Driver::instances);
            lines.extend(instances.map(|argv| {
                format!("{}        # another one than before", within(&target.folder, &secret_free(target, argv)))
            }));
            ByHand::Type(lines)
        }
        TargetAction::Probe { paths, limit_ms } => {
            let url = target.url.as_deref().unwrap_or_default().trim_end_matches('/');
            let one = |path: &String| bounded(limit_ms / 1_000, &asked(url, path));
            let put = target.questions.iter().flat_map(put);
            ByHand::Type(paths.iter().map(one).chain(put).collect())
        }
        TargetAction::ScanLog { file, .. } => ByHand::Type(vec![format!(
            "tail -n 100 {} | grep -inE 'error|fatal|panic|unhandled|uncaught|traceback' || echo nothing",
            shown(file)
        )]),
        TargetAction::Pin { version } => {
            let calls =
                target.driver.as_ref().map(|driver| driver.pin(target.name.as_str(), version)).unwrap_or_default();
            ByHand::Type(calls.iter().map(|argv| within(&target.folder, argv)).collect())
        }
        TargetAction::CheckPort { port } => ByHand::Type(vec![format!("! ss -ltnH 'sport = :{port}' | grep .")]),
        _other => ByHand::Not("there is no command for it that is safe by hand"),
    }
}

/// The list of pm2 holds the variables of every process.
fn secret_free(target: &Target, argv: Vec<String>) -> Vec<String> {
    match &target.driver {
        Some(Driver::Pm2 { .. }) => vec!["pm2".into(), "list".into()],
        _other => argv,
    }
}

/// Puts a question to its database; a person compares the answer.
pub(crate) fn put(question: &Question) -> [String; 2] {
    let wanted = question.equals.as_deref().unwrap_or("true");
    let sql = question.asked().replace('\n', " ");
    let ask = match &question.place {
        Asked::Postgres(url) => {
            let only_reads =
                format!("PGOPTIONS='-c default_transaction_read_only=on -c statement_timeout={}'", question.limit_ms);
            format!("{only_reads} psql -XAtq {} -c {}", quote(url), quote(&sql))
        }
        Asked::Sqlite(file) => format!("sqlite3 -readonly {} {}", shown(file), quote(&sql)),
    };
    [format!("# {question} has to answer {}", wanted.replace('\n', " ")), ask]
}

/// Asks one probe.
pub(crate) fn asked(url: &str, probe: &str) -> String {
    match tcp_place(probe) {
        Some((host, port)) => format!("nc -z {} {port}", quote(host)),
        None => format!("curl -fsS -o /dev/null {}", quote(&format!("{url}{probe}"))),
    }
}

/// Asks what the app tells of itself.
fn told(target: &Target) -> Option<String> {
    let tells = target.tells.as_ref()?;
    Some(match &tells.command {
        Some(argv) => within(&target.folder, argv),
        None => {
            let url = target.url.as_deref().unwrap_or_default().trim_end_matches('/');
            format!("curl -fsS -m 5 {}", quote(&format!("{url}{}", tells.path)))
        }
    })
}

/// Again and again until it goes well, and not for ever.
fn bounded(seconds: u64, line: &str) -> String {
    format!("timeout {} sh -c {}", seconds.max(1), quote(&format!("until {line}; do sleep 1; done")))
}

fn staged(target: &Target, version: &str, origin: Option<&str>, place: Option<String>) -> Vec<String> {
    let Some(driver) = &target.driver else { return Vec::new() };
    match (driver.brings(), place) {
        (Some(Brings::Folder), Some(place)) => vec![format!("ls {place}")],
        (Some(Brings::Git), Some(place)) => {
            let folder = shown(&target.folder);
            let mut inside = vec![
                format!("git -C {folder} worktree prune"),
                format!("git -C {folder} worktree add --quiet --force --detach {place} {}", quote(version)),
            ];
            let env = target.env_file.as_ref().and_then(|file| Some((file, file.strip_prefix(&target.folder).ok()?)));
            inside.extend(env.map(|(file, name)| format!("ln -sfn {} {place}/{}", shown(file), shown(name))));
            let made = target.install.iter().chain(&target.build);
            inside.extend(made.map(|argv| format!("(cd {place} && {})", typed(argv))));
            inside.push(format!("echo {} > {place}.whole", quote(version)));
            vec![format!("if [ ! -e {place}.whole ]; then {}; fi", inside.join(" && "))]
        }
        _no_folders => {
            let look = driver.stage(version).or_else(|| driver.running());
            let mut lines: Vec<String> = look.iter().map(|argv| within(&target.folder, argv)).collect();
            if let (Some(digest), Some(line)) = (origin, lines.first_mut()) {
                *line = format!("{line} || {}", typed(&target::docker_pull(digest)));
            }
            lines
        }
    }
}

fn switched(target: &Target, version: &str, back: bool, place: Option<String>) -> Vec<String> {
    let Some(driver) = &target.driver else { return Vec::new() };
    let mut lines = Vec::new();
    match driver {
        Driver::Docker { container, options, command } => {
            let aside = format!("{container}-by-hand");
            lines.push(format!("docker update --restart no {}", quote(container)));
            lines.push(typed(&target::docker_rename(container, &aside)));
            lines.push(within(&target.folder, &target::docker_create(container, options, version, command)));
        }
        Driver::SupabaseFunctions { project, functions, releases, .. } => {
            let at = releases.join(version);
            lines.extend(functions.iter().map(|name| within(&at, &target::supabase_deploy(project, name, &at))));
        }
        driver => lines.extend(driver.switch(version, back).map(|argv| within(&target.folder, &argv))),
    }
    if let (Some((_, current)), Some(place)) = (driver.places(), place) {
        let current = shown(current);
        lines.push(format!("ln -sfn {place} {current}.new && mv -T {current}.new {current}"));
    }
    lines
}

// ---- databases

/// An address as psql takes it, of another database of the same server where one is named; never with a password.
pub(crate) fn address(url: &str, database: Option<&str>, around: &Around<'_>) -> String {
    match Address::parse(url, around.env) {
        Ok(address) => {
            let address = database.map_or_else(|| address.clone(), |name| address.with_database(name));
            quote(&address.url())
        }
        Err(_unreadable) => quote(url),
    }
}

fn name_of(url: &str, around: &Around<'_>) -> String {
    Address::parse(url, around.env).map(|address| address.database).unwrap_or_default()
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Statements in one transaction.
fn at_once(address: &str, statements: &[String]) -> String {
    let script = statements.join(";\n");
    format!("psql -X -v ON_ERROR_STOP=1 --single-transaction {address} <<'SQL'\n{script};\nSQL")
}

pub(crate) fn say(address: &str, statement: &str) -> String {
    format!("psql -X -v ON_ERROR_STOP=1 {address} -c {}", quote(statement))
}

fn emergency(resource: &Resource, around: &Around<'_>) -> Vec<String> {
    let (name, place) = (&resource.name, quote(&resource.kind.place()));
    match &resource.kind {
        ResourceKind::Sqlite { .. } => vec![
            format!("sqlite3 {place} \".backup {WORK}/emergency-{name}.sqlite\""),
            format!("sqlite3 {WORK}/emergency-{name}.sqlite 'PRAGMA integrity_check'"),
        ],
        ResourceKind::Files { .. } | ResourceKind::Env { .. } => vec![format!("cp -a {place} {WORK}/emergency-{name}")],
        ResourceKind::Postgres { url, .. } => vec![
            format!("pg_dump --format=custom --file {WORK}/emergency-{name}.dump {}", address(url, None, around)),
            format!("pg_restore --list {WORK}/emergency-{name}.dump > /dev/null"),
        ],
    }
}

fn of_postgres(action: &PgAction, around: &Around<'_>) -> ByHand {
    match action {
        PgAction::CheckSource { url } => {
            ByHand::Type(vec![say(&address(url, None, around), "SELECT current_database(), current_user, version()")])
        }
        PgAction::Fence { url, on: true, .. } => {
            let at = address(url, None, around);
            let name = ident(&name_of(url, around));
            ByHand::Type(vec![
                say(&at, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")),
                format!("{}        # whoever comes back can only read", say(&at, END_SESSIONS)),
                "export PGOPTIONS='-c default_transaction_read_only=off'        # for what is typed here".to_owned(),
            ])
        }
        PgAction::Fence { url, on: false, .. } => ByHand::Type(vec![writes_again(url, around)]),
        PgAction::Fill { backup, resource, url, database, .. } => {
            let at = address(url, Some(database), around);
            let part = around.manifest.and_then(|manifest| manifest.resource(resource)).map(|part| part.path.clone());
            let from = format!("{WORK}/restored/{}", part.unwrap_or_else(|| format!("postgres/{resource}")));
            let tag = quote(&format!("id={backup}"));
            ByHand::Type(vec![
                format!(
                    "restic restore latest --tag {tag} --target {WORK}/restored        # asks for the vault's password"
                ),
                say(&address(url, None, around), &format!("CREATE DATABASE {}", ident(database))),
                format!(
                    "(cd {} && for part in pre-data data post-data; do psql -Xqv ON_ERROR_STOP=1 {at} -f $part.sql; done)",
                    quote(&from)
                ),
            ])
        }
        PgAction::Check { resource, url, database, .. } => {
            let at = address(url, Some(database), around);
            let part = around.manifest.and_then(|manifest| manifest.resource(&resource.name));
            let Some(Content::Postgres(facts)) = part.map(|part| &part.content) else {
                return ByHand::Type(vec![say(&at, "SELECT relname, n_live_tup FROM pg_stat_user_tables ORDER BY 1")]);
            };
            let counted = facts.tables.iter().map(|(table, of)| {
                format!("{}        # {}", say(&at, &format!("SELECT count(*) FROM {table}")), of.rows.rows)
            });
            ByHand::Type(counted.collect())
        }
        PgAction::Ready { url, live, .. } => ByHand::Type(vec![say(
            &address(url, Some("postgres"), around),
            &format!(
                "SELECT pid, usename, application_name, state FROM pg_stat_activity WHERE datname = {}",
                literal(live)
            ),
        )]),
        PgAction::Swap { url, live, aside, kept } => {
            let at = address(url, Some("postgres"), around);
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({}, {}) AND pid <> pg_backend_pid()",
                literal(live),
                literal(aside)
            );
            let (live, aside, kept) = (ident(live), ident(aside), ident(kept));
            ByHand::Type(vec![
                say(&at, &format!("ALTER DATABASE {live} ALLOW_CONNECTIONS false")),
                say(&at, &end),
                at_once(
                    &at,
                    &[
                        format!("ALTER DATABASE {live} RENAME TO {kept}"),
                        format!("ALTER DATABASE {aside} RENAME TO {live}"),
                    ],
                ),
            ])
        }
        PgAction::Revert { url, ledger, migrations, lock_timeout_ms, .. } => {
            let at = address(url, None, around);
            let mut all = vec![format!("SET LOCAL lock_timeout = '{lock_timeout_ms}ms'")];
            for one in migrations {
                let Some(down) = &one.down else { continue };
                all.push(format!("-- {}\n{}", one.name, down.text.trim().trim_end_matches(';')));
                let (schema, table) = (ident(&ledger.schema), ident(&ledger.table));
                let column = ident(&ledger.column);
                all.push(format!("DELETE FROM {schema}.{table} WHERE {column}::text = {}", literal(&one.version)));
            }
            ByHand::Type(vec![at_once(&at, &all), writes_again(url, around)])
        }
        PgAction::Sequences { url, from, to } => {
            let (from, to) = (address(url, Some(from), around), address(url, Some(to), around));
            // One that the former schema does not have is told, and nothing else.
            ByHand::Type(vec![format!("psql -XAtq {from} -c {} | psql -Xq {to}", quote(RAISED))])
        }
        PgAction::Salvage { .. } => ByHand::Covered("what was written since the backup is in the emergency copy"),
        PgAction::SettleSalvage { .. } | PgAction::ForgetSalvage { .. } => {
            ByHand::Covered("the emergency copy holds it")
        }
        PgAction::Unfence { .. } => ByHand::Covered("what was closed goes by another name now, and stays closed"),
        _other => ByHand::Not(
            "there is no command for it that is safe by hand: restore into a database beside, and lead the app there",
        ),
    }
}

const END_SESSIONS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Statements that raise sequences to where these stand.
const RAISED: &str = "SELECT format('SELECT setval(%L, greatest(%s, (SELECT last_value FROM %I.%I)));', quote_ident(schemaname) || '.' || quote_ident(sequencename), last_value, schemaname, sequencename) FROM pg_sequences WHERE last_value IS NOT NULL";

fn writes_again(url: &str, around: &Around<'_>) -> String {
    let name = ident(&name_of(url, around));
    say(&address(url, None, around), &format!("ALTER DATABASE {name} RESET default_transaction_read_only"))
}
