//! Rollbacks with drivers that stop and start by themselves: pm2 as it is, the others against small programs that behave like the
//! documented ones, with their traps.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// A value that may be in no file, no output and no list of processes.
const TOKEN: &str = "tok_canary_of_the_platform";

fn program(home: &Home, name: &str, text: &str) {
    let folder = home.path("programs");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What is called with which words, and whether the token came along.
pub fn noted(rest: &str) -> String {
    format!(
        "#!/bin/bash\nnoted=\"$(basename \"$0\") $*\"; for name in FLY_API_TOKEN VERCEL_TOKEN SUPABASE_ACCESS_TOKEN HTTPS_PROXY; do\n\
         [ -n \"${{!name:-}}\" ] && noted=\"$noted +$name\"; done; echo \"$noted\" >> \"$HOME/calls\"\n{rest}"
    )
}

fn prepared(home: &Home, command: &mut Command) -> Command {
    let path = format!("{}:{}", home.path("programs").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("HOME", home.app()).env("PM2_HOME", home.path("pm2-home"));
    for name in ["FLY_API_TOKEN", "VERCEL_TOKEN", "SUPABASE_ACCESS_TOKEN"] {
        command.env(name, TOKEN);
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "shop").env(format!("GIT_{who}_EMAIL"), "shop@localhost");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    std::mem::replace(command, Command::new("true"))
}

fn run(home: &Home, words: &[&str]) -> Ran {
    let output = prepared(home, &mut home.command(words)).output().unwrap();
    let ran = home.ran(words, output);
    assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "lifeboat {} shows the token", ran.typed);
    ran
}

fn shell(home: &Home, text: &str) -> String {
    let as_always = home.command(&[]);
    let mut shell = Command::new("bash");
    shell.args(["-c", text]).current_dir(home.app()).stdin(Stdio::null()).env_clear();
    shell.envs(as_always.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = prepared(home, &mut shell).output().unwrap();
    home.ran(&[text], output).ends(ExitCode::Ok).out.trim().to_owned()
}

fn with_target(lines: &str) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", format!("{settings}[environments.local.targets.web]\n{lines}\n"));
    home
}

fn edit(home: &Home, from: &str, to: &str) {
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    assert!(settings.contains(from), "{settings}");
    home.write("lifeboat.toml", settings.replace(from, to));
}

fn calls(home: &Home) -> String {
    let all = std::fs::read_to_string(home.path("calls")).unwrap_or_default();
    std::fs::remove_file(home.path("calls")).unwrap_or_default();
    all
}

fn seal(home: &Home, label: &str) {
    run(home, &["checkpoint", "--unproven", "--label", label]).ends(ExitCode::Ok);
    run(home, &["releases", "mark", label, "good"]).ends(ExitCode::Ok);
}

/// The text of every file that was kept as evidence, and the newest operation's folder has them for their owner alone.
fn evidence(home: &Home) -> String {
    let folder = home.path("state/lifeboat/shop/evidence");
    let mut found = Vec::new();
    crate::home::collect(&folder, &mut found);
    for (path, _) in &found {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    found.iter().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).collect()
}

/// No file below the home but the programs' own knows the token.
fn no_token(home: &Home) {
    for (path, body) in home.everything() {
        let text = String::from_utf8_lossy(&body);
        assert!(!text.contains(TOKEN), "{} holds the token", path.display());
    }
}

// ---- pm2, as it is

/// The pm2 that tools/pm2-for-tests brings.
pub fn pm2_programs() -> PathBuf {
    let folder = match std::env::var_os("LIFEBOAT_TEST_PM2") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/pm2"),
    };
    let programs = folder.join("bin");
    assert!(programs.join("pm2").exists(), "there is no pm2 in {}; run tools/pm2-for-tests", programs.display());
    programs.canonicalize().unwrap()
}

/// A program of that name that is the real pm2: no link, since it looks for its own files beside itself.
pub fn pm2_script() -> String {
    format!("exec {}/pm2 \"$@\"\n", pm2_programs().display())
}

/// Ends the pm2 that has this home, and all that runs under it.
pub fn end_pm2(home: &Path) {
    let _ = Command::new(pm2_programs().join("pm2")).arg("kill").env("PM2_HOME", home).output();
}

/// An app that serves its version and what variable it was started with.
const SERVER: &str = "const fs = require('fs'), http = require('http');
const version = fs.readFileSync(__dirname + '/VERSION', 'utf8').trim();
if (fs.existsSync(__dirname + '/CRASHES')) process.exit(1);
console.log('this is the log of ' + version);
http.createServer((ask, answer) => answer.end(JSON.stringify({ version, pid: process.pid })))
    .listen(Number(fs.readFileSync(process.cwd() + '/../../PORT', 'utf8')), '127.0.0.1');
";

struct Pm2 {
    home: Home,
}

impl Pm2 {
    fn open() -> Pm2 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home = with_target(&format!(
            "driver = \"pm2\"\nprocess = \"shop\"\nscript = \"server.js\"\nreleases = \"./releases\"\ncurrent = \"./current\"\n\
             url = \"http://127.0.0.1:{port}\"\nprobes = [\"/\"]\nanswer_within = \"20s\"\n\
             tells = {{ path = \"/\", version = \"/version\", instance = \"/pid\" }}"
        ));
        std::fs::create_dir_all(home.path("programs")).unwrap();
        program(&home, "pm2", &format!("#!/bin/sh\n{}", pm2_script()));
        home.write("PORT", port.to_string());
        home.write("server.js", SERVER);
        shell(
            &home,
            "git init -q -b main . && printf '/*\\n!/server.js\\n!/VERSION\\n!/BUILD\\n!/CRASHES\\n' > .gitignore
             echo v1 > VERSION && git add server.js VERSION && git commit -qm v1 && git tag v1
             echo v2 > VERSION && git commit -qam v2 && git tag v2",
        );
        let pm2 = Pm2 { home };
        pm2.use_version("v1");
        pm2
    }

    /// As somebody would by hand.
    fn use_version(&self, tag: &str) {
        shell(
            &self.home,
            &format!(
                "set -e; commit=$(git rev-parse {tag}^{{commit}}); git worktree add -q --detach releases/$commit $commit
                 pm2 delete shop >/dev/null 2>&1 || true; ln -sfn releases/$commit current
                 pm2 start $PWD/current/server.js --name shop --cwd $PWD/current >/dev/null
                 for i in $(seq 100); do curl -s 127.0.0.1:$(cat PORT) >/dev/null && break; sleep 0.1; done"
            ),
        );
    }

    fn serves(&self) -> String {
        let answer = shell(&self.home, "curl -s 127.0.0.1:$(cat PORT)");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["version"].as_str().unwrap().to_owned()
    }

    fn entries(&self) -> String {
        shell(&self.home, "pm2 jlist | tail -1 | jq -c '[.[] | .name + \" \" + .pm2_env.status]'")
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        end_pm2(&self.home.path("pm2-home"));
    }
}

/// APP-07 (D-51), APP-12, PHS-21: the checkout with somebody's work in it is not touched, a version that does not build or crashes
/// leaves the old one serving, and there is one entry in pm2 from beginning to end.
#[test]
fn app_07_pm2_goes_back_with_one_entry() {
    let pm2 = Pm2::open();
    let home = &pm2.home;
    seal(home, "first");
    let pinned = shell(home, "git for-each-ref --format='%(objectname)' refs/lifeboat/releases");
    assert_eq!(pinned, shell(home, "git rev-parse v1^{commit}"), "the commit stays, whatever becomes of its branch");
    pm2.use_version("v2");
    assert_eq!(pm2.serves(), "v2");
    home.write("VERSION", "by hand");
    shell(home, "rm -rf releases/$(git rev-parse v1^{commit}) && git worktree prune");
    // It does not build: nothing has happened.
    edit(home, "driver = \"pm2\"", "driver = \"pm2\"\nbuild = [\"false\"]");
    run(home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["`false` failed"]);
    assert_eq!((pm2.serves().as_str(), pm2.entries().as_str()), ("v2", "[\"shop online\"]"));
    // It builds and crashes at once: what ran runs again.
    edit(home, "build = [\"false\"]", "build = [\"touch\", \"CRASHES\"]\nanswer_within = \"4s\"");
    edit(home, "answer_within = \"20s\"\n", "");
    run(home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["web does not work"]);
    shell(home, "for i in $(seq 50); do curl -s 127.0.0.1:$(cat PORT) >/dev/null && break; sleep 0.1; done");
    assert_eq!((pm2.serves().as_str(), pm2.entries().as_str()), ("v2", "[\"shop online\"]"));
    edit(home, "build = [\"touch\", \"CRASHES\"]\nanswer_within = \"4s\"", "answer_within = \"20s\"");
    shell(home, "rm -rf releases/$(git rev-parse v1^{commit})* && git worktree prune");
    let shown = run(home, &["rollback", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&[
        "pm2 delete shop",
        "pm2 start",
        "keep the log and the state of web",
        "a new instance answers with v1",
    ]);
    run(home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((pm2.serves().as_str(), pm2.entries().as_str()), ("v1", "[\"shop online\"]"));
    assert_eq!(std::fs::read_to_string(home.path("VERSION")).unwrap(), "by hand");
    assert!(evidence(home).contains("this is the log of v2"), "{}", evidence(home));
    run(home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((pm2.serves().as_str(), pm2.entries().as_str()), ("v2", "[\"shop online\"]"));
}

/// APP-12: an app that hangs tells nothing before; when the start does nothing and it answers again, that is no new instance.
#[test]
fn app_12_what_hung_and_answers_again_is_not_new() {
    let pm2 = Pm2::open();
    let home = &pm2.home;
    seal(home, "first");
    shell(home, "git checkout -q v1 && git commit -q --allow-empty -m other && git tag other && git checkout -q main");
    pm2.use_version("other");
    // Both tell v1. Commands of somebody's that do nothing, and a process that is stopped now and goes on later.
    let process = shell(home, "pm2 jlist | tail -1 | jq .[0].pid");
    let continues = format!("sleep 3; kill -CONT {process}");
    edit(
        home,
        "driver = \"pm2\"\nprocess = \"shop\"\nscript = \"server.js\"",
        &format!(
            "driver = \"git\"\nstop = [\"true\"]\nstart = [\"bash\", \"-c\", \"({continues}) > /dev/null 2>&1 &\"]"
        ),
    );
    shell(home, &format!("kill -STOP {process}"));
    let failed = run(home, &["rollback", "first", "--yes"]).ends(ExitCode::FailedUndone);
    shell(home, &format!("kill -CONT {process}"));
    failed.says(&["it cannot be told whether what answers was started anew"]);
}

// ---- systemd

/// `systemctl` and `journalctl` as documented: every start has an invocation id, starting what runs does nothing, a unit that
/// failed too often is not started before `reset-failed`.
const SYSTEMCTL: &str = r#"
state=$(cat "$HOME/unit" 2>/dev/null || echo inactive); id=$(cat "$HOME/invocation" 2>/dev/null)
case $1 in
    show) printf 'LoadState=loaded\nActiveState=%s\nSubState=running\nInvocationID=%s\nMainPID=0\n' "$state" "$id" ;;
    stop) echo inactive > "$HOME/unit" ;;
    reset-failed) echo inactive > "$HOME/unit" ;;
    status) echo "* $3 is $state" ;;
    start) [ -e "$HOME/deaf" ] && exit 0
        [ "$state" = failed ] && { echo "Start request repeated too quickly." >&2; exit 1; }
        if [ "$state" != active ]; then
            echo active > "$HOME/unit"; cat /proc/sys/kernel/random/uuid > "$HOME/invocation"
            cat "$HOME/current/VERSION" > "$HOME/runs"
            [ -e "$HOME/current/CRASHES" ] && echo failed > "$HOME/unit"
        fi ;;
    *) exit 1 ;;
esac
exit 0
"#;

#[test]
fn app_12_systemd_starts_another_invocation() {
    let home = with_target(
        "driver = \"systemd\"\nunit = \"shop.service\"\nversions = \"folder\"\nreleases = \"./releases\"\ncurrent = \"./current\"\n\
         answer_within = \"3s\"",
    );
    program(&home, "systemctl", &noted(SYSTEMCTL));
    program(&home, "journalctl", &noted("echo 'shop[7]: out of memory'"));
    shell(
        &home,
        "for v in v1 v2; do mkdir -p releases/$v; echo $v > releases/$v/VERSION; done
         ln -sfn releases/v1 current; systemctl start shop.service",
    );
    seal(&home, "first");
    shell(&home, "ln -sfn releases/v2 current; systemctl stop shop.service; systemctl start shop.service");
    calls(&home);
    // A start that does nothing: success, and no instance.
    home.write("deaf", "");
    run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["there is no instance"]);
    std::fs::remove_file(home.path("deaf")).unwrap();
    shell(&home, "systemctl start shop.service");
    // It crashes at once, and systemd gives up on it: taken back, the former one is started all the same.
    home.write("releases/v1/CRASHES", "");
    run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["there is no instance"]);
    let read = |name: &str| std::fs::read_to_string(home.path(name)).unwrap().trim().to_owned();
    assert_eq!((read("runs"), read("unit")), ("v2".into(), "active".into()));
    std::fs::remove_file(home.path("releases/v1/CRASHES")).unwrap();
    // The one that is to come back had failed before, so it has to be told to try again.
    shell(&home, "echo failed > unit");
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((read("runs"), read("unit")), ("v1".into(), "active".into()));
    let said = calls(&home);
    assert!(
        said.contains("systemctl stop shop.service\n") && said.contains("systemctl start shop.service\n"),
        "{said}"
    );
    assert!(evidence(&home).contains("out of memory"));
}

// ---- Docker

/// `docker` as documented: names are unique, `create` does not start, a container keeps its image, `image inspect` fails for what
/// is not there, `container ls` prints nothing for what is not there.
const DOCKER: &str = r#"
cd "$HOME/docker"
of() { basename "$(grep -lx "name=$1" containers/*/name 2>/dev/null | head -1 | xargs -r dirname)"; }
case "$1 $2" in
    "container ls") name=${6#name=^/?}; name=$(echo "${name%\$}" | tr -d '\\'); id=$(of "$name"); [ -n "$id" ] && echo "$id" ;;
    "inspect --type") shift 5; for name; do id=$(of "$name"); [ -d "containers/$name" ] && id=$name
        [ -n "$id" ] || { echo "Error: No such container: $name" >&2; exit 1; }
        echo "$id $(cat containers/$id/image) $(cat containers/$id/state) $(cat containers/$id/since) none 0"; done ;;
    "image inspect") [ -e "images/$5" ] || { echo "Error: No such image: $5" >&2; exit 1; }; cat "images/$5" ;;
    "image tag") mkdir -p "$(dirname "images/$4")"; cp "images/$3" "images/$4" ;;
    "image ls") for image in images/sha256:*; do echo "$(basename $image) shop:x 2026-01-01"; done ;;
    "pull --quiet") [ -e "registry/${3//\//_}" ] || { echo "denied: $TOKEN_IN_ANSWER" >&2; exit 1; }; cp "registry/${3//\//_}" "images/$(cut -d' ' -f1 "registry/${3//\//_}")" ;;
    "rename "*) id=$(of "$2"); [ -n "$id" ] || exit 1; [ -z "$(of "$3")" ] || { echo "Conflict. The container name is already in use" >&2; exit 1; }
        echo "name=$3" > containers/$id/name ;;
    "create --name") name=$3; [ -z "$(of "$name")" ] || { echo "Conflict. The container name \"/$name\" is already in use" >&2; exit 1; }
        shift 5; while [ "${1#-}" != "$1" ]; do echo "$1 $2" >> options.$$; shift 2; done
        [ -e "images/$1" ] || { echo "Unable to find image" >&2; exit 1; }
        id=$(cat /proc/sys/kernel/random/uuid | tr -d -)$(cat /proc/sys/kernel/random/uuid | tr -d -); mkdir -p containers/$id
        mv options.$$ containers/$id/options; echo "name=$name" > containers/$id/name; cut -d' ' -f1 "images/$1" > containers/$id/image
        echo created > containers/$id/state; echo never > containers/$id/since; echo "log of $1" > containers/$id/log; echo $id ;;
    "start "*) id=$(of "$2"); [ -n "$id" ] || exit 1
        [ "$(cat containers/$id/state)" = running ] || { echo running > containers/$id/state; date +%s.%N > containers/$id/since; }
        [ -e "broken-$(cat containers/$id/image)" ] && echo exited > containers/$id/state; echo "$2" ;;
    "stop "*) id=$(of "$2"); [ -n "$id" ] || { echo "Error: No such container: $2" >&2; exit 1; }; echo exited > containers/$id/state ;;
    "update --restart") id=$(of "$4"); [ -n "$id" ] || exit 1; echo "$3" > containers/$id/restart ;;
    "logs --timestamps") id=$(of "$5"); cat containers/$id/log >&2 ;;
    "compose --file") shift 3; case $1 in
        ps) cat "$HOME/docker/service" 2>/dev/null ;;
        stop) for id in $(cat service); do echo exited > containers/$id/state; done ;;
        logs) for id in $(cat service); do cat containers/$id/log; done ;;
        up) for id in $(cat service 2>/dev/null); do rm -r containers/$id; done
            id=$(cat /proc/sys/kernel/random/uuid | tr -d -)$(cat /proc/sys/kernel/random/uuid | tr -d -); mkdir -p containers/$id
            echo name=app-web-1 > containers/$id/name; image=$(cut -d' ' -f1 images/shop:current); echo "$image" > containers/$id/image
            echo running > containers/$id/state; date +%s.%N > containers/$id/since; echo "log of $image" > containers/$id/log
            [ -e "broken-$image" ] && echo exited > containers/$id/state; echo $id > service ;;
        esac ;;
    *) echo "unknown: $*" >&2; exit 125 ;;
esac
exit 0
"#;

const ONE: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn with_docker(lines: &str) -> Home {
    let home = with_target(lines);
    program(&home, "docker", &noted(DOCKER));
    for folder in ["images", "containers", "registry"] {
        std::fs::create_dir_all(home.path("docker").join(folder)).unwrap();
    }
    home.write(&format!("docker/images/{ONE}"), format!("{ONE} registry.example/shop@sha256:aaaa\n"));
    home.write(&format!("docker/images/{TWO}"), format!("{TWO}\n"));
    home
}

/// Name, image, state of each container, in order of names.
fn containers(home: &Home) -> Vec<String> {
    let all = shell(
        home,
        "cd docker/containers; for id in *; do echo \"$(cat $id/name) $(cut -c8-9 $id/image) $(cat $id/state)\"; done | sort",
    );
    all.lines().map(|line| line.trim_start_matches("name=").to_owned()).collect()
}

/// APP-06 (D-24), APP-13, PHS-21: the name is freed and the former container kept; ports and variables come along; what was
/// `:previous` moves, the image's id does not.
#[test]
fn app_06_docker_frees_the_name_and_keeps_the_former_container() {
    let home = with_docker(
        "driver = \"docker\"\ncontainer = \"service-center\"\noptions = [\"-p\", \"3025:3025\", \"--env-file\", \".env\", \"--restart\", \"always\"]\n\
         env_file = \".env\"\nanswer_within = \"3s\"",
    );
    home.write(".env", "A=1\n");
    shell(
        &home,
        &format!("docker create --name service-center --pull never -p 3025:3025 {ONE} && docker start service-center"),
    );
    seal(&home, "first");
    assert!(home.path("docker/images/lifeboat/web:111111111111").exists(), "it is kept by a name of its own");
    shell(
        &home,
        &format!(
            "docker stop service-center; docker rename service-center old; docker create --name service-center --pull never -p 3025:3025 {TWO}; docker start service-center"
        ),
    );
    calls(&home);
    // What comes back does not stay up: the very container that ran runs again, and nothing else is left.
    home.write(&format!("docker/broken-{ONE}"), "");
    let before = containers(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["an instance is exited"]);
    let after = containers(&home);
    assert!(after.contains(&"service-center 22 running".to_owned()), "{after:?}");
    assert_eq!(after.len(), before.len() + 1, "what did not work is kept too: {after:?}");
    std::fs::remove_file(home.path(&format!("docker/broken-{ONE}"))).unwrap();
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    let after = containers(&home);
    assert!(after.contains(&"service-center 11 running".to_owned()), "{after:?}");
    assert!(
        after.iter().any(|one| one.starts_with("service-center-222222222222-p-") && one.ends_with("22 exited")),
        "{after:?}"
    );
    let said = calls(&home);
    let create = said.lines().find(|line| line.starts_with("docker create")).unwrap();
    assert_eq!(
        create,
        format!("docker create --name service-center --pull never -p 3025:3025 --env-file .env --restart always {ONE}")
    );
    assert!(said.contains("docker update --restart no service-center"), "the former one stays down: {said}");
    assert!(evidence(&home).contains(&format!("log of {TWO}")), "{}", evidence(&home));
    run(&home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert!(containers(&home).contains(&"service-center 22 running".to_owned()));
    // The image was cleared away: it is pulled by its digest; and when nobody has it, nothing is begun.
    std::fs::remove_file(home.path(&format!("docker/images/{ONE}"))).unwrap();
    let gone = run(&home, &["rollback", "first", "--yes"]).ends(ExitCode::FailedUndone);
    gone.says(&["docker pull --quiet registry.example/shop@sha256:aaaa"]);
    assert!(containers(&home).contains(&"service-center 22 running".to_owned()));
    home.write(
        "docker/registry/registry.example_shop@sha256:aaaa",
        format!("{ONE} registry.example/shop@sha256:aaaa\n"),
    );
    run(&home, &["rollback", "first", "--yes"]).ends(ExitCode::Ok);
    assert!(containers(&home).contains(&"service-center 11 running".to_owned()));
}

/// The tag that the file names is led to the image; nothing is built or pulled; every start makes another container.
#[test]
fn compose_leads_its_tag_to_the_image() {
    let home = with_docker(
        "driver = \"compose\"\nfile = \"./compose.yml\"\nservice = \"web\"\nimage = \"shop:current\"\nanswer_within = \"3s\"",
    );
    home.write("docker/images/shop:current", format!("{ONE}\n"));
    shell(&home, "docker compose --file compose.yml up");
    seal(&home, "first");
    home.write("docker/images/shop:current", format!("{TWO}\n"));
    // The tag was led elsewhere and nothing was started: what runs is what counts.
    let same = run(&home, &["rollback", "first", "--dry-run"]).ends(ExitCode::Refused);
    same.says(&["what", "ran is what runs"]);
    shell(&home, "docker compose --file compose.yml up");
    home.write(&format!("docker/broken-{ONE}"), "");
    run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone).says(&["an instance is exited"]);
    assert_eq!(containers(&home), ["app-web-1 22 running"]);
    std::fs::remove_file(home.path(&format!("docker/broken-{ONE}"))).unwrap();
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(containers(&home), ["app-web-1 11 running"]);
    let said = calls(&home);
    assert!(said.contains("up --detach --no-deps --no-build --pull never --force-recreate web\n"), "{said}");
    assert!(evidence(&home).contains(&format!("log of {TWO}")));
}

// ---- Vercel

/// `vercel` as documented: `inspect` writes for people, on standard error, with colours; `list` prints addresses; a rollback on the
/// smallest plan goes one step only; variables are read and never change what runs.
pub const VERCEL: &str = r#"
cd "$HOME/vercel"
case $1 in
    inspect) case $2 in shop.example) id=$(cat production) ;; https://*) id=dpl_${2#https://shop-}; id=${id%.vercel.app} ;; *) id=$2 ;; esac
        [ -e "$id" ] || { echo "Error: Can't find the deployment \"$2\"" >&2; exit 1; }
        [ "$3" = --logs ] && { echo "build log of $id" >&2; exit 0; }
        printf '> Fetched deployment\n\n  General\n\n    \033[36mid\033[39m\t\t%s\n    \033[36mname\033[39m\tshop\n    \033[36mtarget\033[39m\t%s\n    \033[36mstatus\033[39m\t\033[32m● %s\033[39m\n' "$id" $(cat $id) >&2
        grep -q Error "$id" && exit 1; exit 0 ;;
    list) printf '\n  Age  Deployment\n' >&2; cat list ;;
    rollback) [ -e hobby ] && [ "$2" != "$(cat hobby)" ] && { echo "Error: To roll back further than the previous production deployment, upgrade to pro" >&2; exit 1; }
        echo "$2" > production ;;
    promote) echo "$2" > production ;;
    env) echo "Error: nobody should take variables away" >&2; exit 1 ;;
esac
exit 0
"#;

/// APP-05 (D-25): the newest that was built for production and is ready, behind the one in use; by id; and forward again by
/// promotion. The plan says that variables are built in.
#[test]
fn app_05_vercel_goes_back_to_the_deployment_before() {
    let home =
        with_target("driver = \"vercel\"\nproject = \"shop\"\ndomain = \"shop.example\"\nanswer_within = \"3s\"");
    program(&home, "vercel", &noted(VERCEL));
    std::fs::create_dir_all(home.path("vercel")).unwrap();
    for (id, what) in [
        ("dpl_4", "production Ready"),
        ("dpl_3", "production Error"),
        ("dpl_2", "production Ready"),
        ("dpl_1", "production Ready"),
    ] {
        home.write(&format!("vercel/{id}"), what);
    }
    home.write("vercel/production", "dpl_4\n");
    home.write(
        "vercel/list",
        "https://shop-4.vercel.app\nhttps://shop-3.vercel.app\nhttps://shop-2.vercel.app\nhttps://shop-1.vercel.app\n",
    );
    let shown = run(&home, &["rollback", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["dpl_2 in the place of dpl_4", "a restart does not change them"]);
    let listed = run(&home, &["releases", "platform", "--json"]).ends(ExitCode::Ok).json();
    let listed =
        listed["versions"].as_array().unwrap().iter().map(|one| (one["version"].as_str(), one["can_run"].as_bool()));
    let ids = ["dpl_4", "dpl_3", "dpl_2", "dpl_1"].map(|id| (Some(id), Some(id != "dpl_3")));
    assert_eq!(listed.collect::<Vec<_>>(), ids);
    // The smallest plan goes one step back only, and says so.
    home.write("vercel/hobby", "dpl_3\n");
    let refused = run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    refused.says(&["upgrade to pro", "vercel rollback dpl_2 --yes --timeout 3m"]);
    std::fs::remove_file(home.path("vercel/hobby")).unwrap();
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    let production = || std::fs::read_to_string(home.path("vercel/production")).unwrap().trim().to_owned();
    assert_eq!(production(), "dpl_2");
    run(&home, &["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(production(), "dpl_4");
    let said = calls(&home);
    assert!(said.contains("vercel rollback dpl_2 --yes --timeout 3m +VERCEL_TOKEN\n"), "{said}");
    assert!(said.contains("vercel promote dpl_4 --yes --timeout 3m +VERCEL_TOKEN\n"), "{said}");
    assert!(!said.contains("vercel env"), "{said}");
    assert!(evidence(&home).contains("build log of dpl_4"));
    // Settings that would restart it with another variable: a restart changes none.
    home.write(".env", "ENABLE_SUPABASE=true\n");
    edit(&home, "driver = \"vercel\"", "driver = \"vercel\"\nenv_file = \".env\"");
    let refused = run(&home, &["level", "3", "--local-only", "--yes"]).ends(ExitCode::Refused);
    refused.says(&["a restart does not change them"]);
    no_token(&home);
}

// ---- Supabase

/// `supabase functions` as documented: a deploy counts the version up, unless nothing has changed; there is no way to ask which
/// commit runs.
pub const SUPABASE: &str = r#"
cd "$HOME/supabase"
case "$1 $2" in
    "functions list") shopt -s nullglob; sep=; printf '['; for one in *; do printf '%s{"slug":"%s","version":%s,"status":"ACTIVE"}' "$sep" "$one" $(cut -d' ' -f1 $one); sep=,; done; printf ']' ;;
    "functions deploy") [ -e "$HOME/supabase-is-down" ] && [ "$3" = second ] && { echo "Error: 500" >&2; exit 1; }
        text=$(cat "$7/supabase/functions/$3/index.ts") || exit 1
        [ "$(cut -d' ' -f2- "$3")" = "$text" ] && { echo "No change found in Function: $3"; exit 0; }
        echo "$(( $(cut -d' ' -f1 "$3") + 1 )) $text" > "$3"; echo "Deployed Functions on project $5: $3" ;;
    "functions delete") echo gone > "$HOME/deleted" ;;
    *) exit 1 ;;
esac
"#;

/// APP-09 (D-44): over what is there, out of a worktree; the checkout and its branch stay, nothing is ever deleted; a function that
/// both versions have alike is left alone; half a deploy is taken back.
#[test]
fn app_09_functions_go_back_without_being_deleted() {
    let home = with_target(
        "driver = \"supabase-functions\"\nproject = \"abcdefgh\"\nfunctions = [\"first\", \"same\", \"second\"]\n\
         releases = \"./releases\"\ncurrent = \"./current\"\nanswer_within = \"3s\"",
    );
    program(&home, "supabase", &noted(SUPABASE));
    shell(
        &home,
        "set -e; git init -q -b main .; printf '/*\\n!/supabase-code\\n' > .git/info/exclude; mkdir supabase
         put() { mkdir -p functions/$1; git rm -q --cached -r . 2>/dev/null || true
             for f in first second; do mkdir -p code/supabase/functions/$f; echo \"$1 $f\" > code/supabase/functions/$f/index.ts; done
             mkdir -p code/supabase/functions/same; echo same > code/supabase/functions/same/index.ts
             git --work-tree=code add -f --all; git --work-tree=code commit -qm $1; git tag $1; }
         put v1; put v2
         for v in v1 v2; do git worktree add -q --detach releases/$(git rev-parse $v^{commit}) $v; done
         ln -sfn releases/$(git rev-parse v1^{commit}) current
         for f in first second same; do echo \"1 $(cat current/supabase/functions/$f/index.ts)\" > supabase/$f; done",
    );
    seal(&home, "first");
    shell(
        &home,
        "ln -sfn releases/$(git rev-parse v2^{commit}) current
         for f in first second same; do supabase functions deploy $f --project-ref abcdefgh --workdir $PWD/current; done",
    );
    let read = |name: &str| std::fs::read_to_string(home.path("supabase").join(name)).unwrap().trim().to_owned();
    assert_eq!((read("first"), read("same")), ("2 v2 first".into(), "1 same".into()));
    // Half of it goes through: the former ones come back over it.
    home.write("supabase-is-down", "");
    let branch = shell(&home, "git rev-parse HEAD; git branch --show-current");
    // Taking back meets the same trouble, so it waits for a person and goes on when the platform is there again.
    let stuck = run(&home, &["rollback", "--yes"]);
    assert_ne!(stuck.code, Some(0), "{}\n{}", stuck.out, stuck.err);
    std::fs::remove_file(home.path("supabase-is-down")).unwrap();
    run(&home, &["abort", "--yes"]).ends(ExitCode::Ok);
    assert_eq!((read("first"), read("second")), ("4 v2 first".into(), "2 v2 second".into()));
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(
        (read("first"), read("same"), read("second")),
        ("5 v1 first".into(), "1 same".into(), "3 v1 second".into())
    );
    let said = calls(&home);
    assert!(said.lines().filter(|line| line.starts_with("supabase functions deploy")).count() == 3, "{said}");
    assert!(
        said.lines().all(|line| !line.starts_with("supabase") || line.ends_with("+SUPABASE_ACCESS_TOKEN")),
        "{said}"
    );
    assert!(!said.contains("functions delete"));
    assert_eq!(shell(&home, "git rev-parse HEAD; git branch --show-current"), branch);
    no_token(&home);
}

// ---- Fly.io

/// FLY_API_TOKEN reaches fly and stands nowhere (D-22); a machine that was not replaced is no new instance.
const FLY: &str = r#"
case $1 in
    releases) cat "$HOME/fly-releases" ;;
    machines) cat "$HOME/fly-machines" ;;
    logs) echo "the log of the machines" ;;
    status) echo "the state of the machines" ;;
    deploy) [ -n "$FLY_API_TOKEN" ] || { echo "Error: no access token available" >&2; exit 1; }
        [ -e "$HOME/fly-is-down" ] && { echo "Error: the token $FLY_API_TOKEN has expired" >&2; exit 1; }
        printf '[{"Version": 9, "Status": "complete", "ImageRef": "%s"}]' "$5" > "$HOME/fly-releases"
        [ -e "$HOME/fly-is-deaf" ] || printf '[{"id":"m1","state":"started","instance_id":"NEW","config":{"image":"%s"}}]' "$5" > "$HOME/fly-machines" ;;
esac
"#;

#[test]
fn env_07_the_token_reaches_fly_and_stands_nowhere() {
    let home =
        with_target("driver = \"fly\"\napp = \"shop-production\"\nanswer_within = \"2s\"\npass = [\"HTTPS_PROXY\"]");
    program(&home, "fly", &noted(FLY));
    let reset = |home: &Home| {
        home.write(
            "fly-releases",
            r#"[{"Version": 8, "Status": "complete", "ImageRef": "img:bad"}, {"Version": 7, "Status": "complete", "ImageRef": "img:good"}]"#,
        );
        home.write(
            "fly-machines",
            r#"[{"id":"m1","state":"started","instance_id":"OLD","config":{"image":"img:bad"}}]"#,
        );
    };
    reset(&home);
    home.write("fly-is-down", "");
    let failed = run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    failed.says(&["the token <FLY_API_TOKEN> has expired"]);
    std::fs::remove_file(home.path("fly-is-down")).unwrap();
    // The list says that it went through, and the machine is the old one.
    home.write("fly-is-deaf", "");
    let failed = run(&home, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    failed.says(&["it was not started anew"]);
    std::fs::remove_file(home.path("fly-is-deaf")).unwrap();
    reset(&home);
    calls(&home);
    run(&home, &["rollback", "--yes"]).ends(ExitCode::Ok);
    let said = calls(&home);
    assert!(said.contains("fly deploy --app shop-production --image img:good --yes +FLY_API_TOKEN\n"), "{said}");
    // ENV-11, D-18: a list of secrets gives digests, and no address of a database is taken from it.
    assert!(!said.contains("secrets"), "{said}");
    assert!(evidence(&home).contains("the log of the machines"));
    no_token(&home);
}

/// What drivers want, said where it is missing; and what may not stand in their words.
#[test]
fn what_a_driver_needs_is_said() {
    for (lines, says) in [
        ("driver = \"pm2\"", &["no releases"][..]),
        (
            "driver = \"pm2\"\nreleases = \"r\"\ncurrent = \"c\"\nscript = \"/srv/a.js\"\nprocess = \"shop\"",
            &["lies in no version"],
        ),
        ("driver = \"docker\"", &["no container"]),
        (
            "driver = \"docker\"\ncontainer = \"a\"\noptions = [\"-e\", \"KEY=hunter2\"]",
            &["gives KEY a value", "--env-file"],
        ),
        (
            "driver = \"docker\"\ncontainer = \"a\"\noptions = [\"--env-file\", \".env.backup\"]\nenv_file = \".env\"",
            &["one and the same file"],
        ),
        ("driver = \"docker\"\ncontainer = \"a\"\noptions = [\"--name\", \"b\"]", &["holds --name"]),
        ("driver = \"compose\"\nfile = \"f\"", &["no service"]),
        ("driver = \"vercel\"\nproject = \"a\"", &["no domain"]),
        (
            "driver = \"supabase-functions\"\nproject = \"a\"\nreleases = \"r\"\ncurrent = \"c\"\nfunctions = []",
            &["no functions"],
        ),
        ("driver = \"fly\"\napp = \"a\"\npass = [\"KEY=hunter2\"]", &["with more than a name"]),
    ] {
        let home = with_target(lines);
        let ran = run(&home, &["status"]).ends(ExitCode::Usage).says(says);
        assert!(!ran.err.contains("hunter2") && !ran.out.contains("hunter2"), "{}", ran.err);
    }
}
