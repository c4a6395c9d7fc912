//! The disaster recovery document of the example app, every command block of it, word for word: against the app, which is
//! another process, through the real daemon and the scripts that `shims install` writes.
//!
//! The table and the document have to agree block by block, so that none is left out silently. What the document leaves open - its
//! repository, its project, paths, a commit, a token - is filled in, and /tmp is a folder of the test's; nothing else is changed.
//! The app runs under a real pm2, with a home of its own; `watch` and `tail -f`, which never end, run at a terminal of their own until
//! they have shown what they should, and end by Ctrl-C; the AWS CLI sends to an S3 server of the test's. Stand-ins are only what would
//! reach out of the test: the project's address, and `killall`, which would end programs of strangers.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use lifeboat_io::objects::{
    ObjectStore,
    s3::{S3, S3Settings},
};
use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::Server;
use tempfile::TempDir;

use crate::{
    bucket::{self, KEY_ID, SECRET},
    drivers::{end_pm2, pm2_script},
    home::{Home, Ran},
};

/// A block of the document.
struct Block {
    language: String,
    text: String,
}

/// What is done with a block.
enum How {
    /// It runs as it is written; before it this, afterwards that; all of it says these.
    Run(&'static str, &'static str, &'static [&'static str]),
    /// It runs in the cloud, on a database that these statements have made; it says these.
    Sql(&'static str, &'static [&'static str]),
    /// It is a program of the app's that Node runs, under this name.
    Script(&'static str, &'static [&'static str]),
    /// Its lines run as cron runs them, one after the other; before them this, afterwards that; all of it says these.
    Cron(&'static str, &'static str, &'static [&'static str]),
}

use How::{Cron, Run, Script, Sql};

/// The document's project.
const PROJECT: &str = "your-project.supabase.co";
const PROJECT_SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"message": "No API key found in request", "hint": "No `apikey` request header or url param was found."}'
        self.send_response(401 if self.path == "/rest/v1/" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("project.crt", "project.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
/// A person at a terminal: looks at what a program shows until it is there, and presses Ctrl-C; or gives up after a minute.
const TERMINAL: &str = r#"
import fcntl, os, pty, signal, struct, sys, termios
name, wanted, *words = sys.argv[1:]
program, seen, pressed = f"/usr/bin/{name}", b"", False
process, terminal = pty.fork()
if process == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 200, 0, 0))
    os.execve(program, [name, *words], {**os.environ, "TERM": "xterm"})
signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
signal.alarm(60)
while True:
    try: part = os.read(terminal, 65536)
    except OSError: break
    if not part: break
    seen += part
    if not pressed and wanted.encode() in seen:
        os.write(terminal, b"\x03")
        pressed = True
ended = os.waitpid(process, 0)[1]
sys.stdout.buffer.write(seen)
if not pressed: sys.exit(f"{name} has not shown {wanted!r}, and ended with {ended}")
"#;
const MODELS: &str = r#"
const { execFileSync } = require('child_process');
const QueryTypes = { SELECT: 'SELECT' };
const query = async (sql) => JSON.parse(execFileSync('sqlite3', ['-json', 'database.sqlite', sql]).toString() || '[]');
module.exports = { sequelize: { QueryTypes, query } };
"#;
const SERVICE: &str = r#"
const { execFileSync } = require('child_process');
const cloud = require('fs').readFileSync('.env', 'utf8').match(/^SUPABASE_DB_URL=(.*)$/m)[1];
const literal = (value) => value === null ? 'NULL' : `'${String(value).replace(/'/g, "''")}'`;
const bulkCreate = async (table, rows) => {
  const upsert = (row) => {
    const names = Object.keys(row);
    return `INSERT INTO mirror.${table} (${names.join(', ')}) VALUES (${names.map((name) => literal(row[name])).join(', ')})
      ON CONFLICT (id) DO UPDATE SET ${names.map((name) => `${name} = excluded.${name}`).join(', ')};`;
  };
  execFileSync('psql', ['-q', '-v', 'ON_ERROR_STOP=1', cloud], { input: rows.map(upsert).join("\n") });
};
module.exports = { hybridDatabaseService: { bulkCreate } };
"#;
const STATUS: &str = "curl -s http://localhost:3002/api/sync/status";
pub const ADD_CUSTOMER: &str = "curl -s -X POST http://localhost:3002/api/customers -H 'Authorization: Bearer TOKEN' -d '{\"firstName\":\"A\",\"lastName\":\"B\"}'";
const OF_MINE: &str = "
    CREATE TABLE your_table (id int, shop_id int); CREATE TABLE customers (id int, shop_id int); CREATE SCHEMA auth;
    CREATE FUNCTION auth.current_shop_id() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION auth.is_owner_or_admin() RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE POLICY \"Users can view shop customers\" ON customers FOR SELECT USING (true);
    CREATE POLICY yours ON your_table USING (true);";
const TWICE: &str = "
    CREATE TABLE customers (id int, created_at timestamptz);
    INSERT INTO customers VALUES (1, '2026-01-01'), (1, '2026-01-02'), (2, '2026-01-01');";

/// Every block: how it begins, and what is done with it.
fn table() -> Vec<(&'static str, How)> {
    vec![
        // Level 1
        ("curl -X POST http://localhost:3002/api/sync/disable", Run("", "", &["\"enabled\":false"])),
        ("# Edit .env", Run("echo SYNC_ENABLED=false >> .env", "", &[])),
        ("curl http://localhost:3002/api/sync/status", Run("", "sed -i /SYNC_ENABLED/d .env", &[])),
        // Level 2
        ("curl http://localhost:3002/api/sync/queue | jq", Run(ADD_CUSTOMER, "", &["customers", "insert"])),
        (
            "curl http://localhost:3002/api/sync/queue > queue-backup",
            Run("", "jq '.data.entries | length' queue-backup-*.json", &["1"]),
        ),
        ("curl -X POST http://localhost:3002/api/sync/queue/clear \\", Run("", "", &["dropped", "\"insert\":1"])),
        ("curl http://localhost:3002/api/sync/status | jq '.data.queue.queueSize'", Run("", "", &[])),
        // Level 3
        ("# 1. Disable Supabase entirely", Run("", "sed -i /ENABLE_SUPABASE/d .env", &[])),
        (
            "# 1. Find commit to rollback to",
            Run(
                "",
                "lifeboat level 3 --to HEAD~1 --yes --json && git log --oneline -1",
                &[
                    "Revert \"3\"",
                    "HEAD is now at",
                    "Everything up-to-date",
                    "\"within\":true",
                    "\"budget_s\":300",
                    "Roll back to",
                ],
            ),
        ),
        ("# 1. Create backup of current state", Run("", "git -C ../remote.git branch", &["backup-20"])),
        (
            "# Test critical functionality",
            Run(
                "",
                "",
                &[
                    "\"status\":\"ok\"",
                    "\"name\":\"app\",\"state\":\"pass\"",
                    "vehicle_id",
                    "GET /api/repair-orders?limit=1 HTTP/1.1\" 200",
                ],
            ),
        ),
        // Level 4
        ("# Ensure sync is disabled", Run("", STATUS, &["\"enabled\":false", "401", "token"])),
        (
            "const { sequelize }",
            // `shims install` has put its own there under the document's name.
            Script(
                "scripts/by-the-document.js",
                &["Found 21 records in customers", "Synced 20/20 parts", "Re-sync complete!"],
            ),
        ),
        ("node scripts/resync-to-cloud.js", Run("", "", &["repair_orders"])),
        ("# Watch queue size", Run("", "", &["Every 5.0s: curl", "\"queueSize\": 0"])),
        ("curl -X POST http://localhost:3002/api/sync/enable", Run("", "", &["\"enabled\":true"])),
        // Level 5
        (
            "# 1. Stop application",
            Run(
                "curl -s -X POST http://localhost:3002/api/sync/disable > /dev/null; ./scripts/backup-now.sh",
                "ls; cat killed; pm2 jlist | jq -c '.[] | [.name, .pm2_env.status]'; pm2 start collision-os",
                &["database.sqlite.CORRUPTED.", "killall node", "21", "[\"collision-os\",\"stopped\"]"],
            ),
        ),
        (
            "# 1. Clone fresh from repository",
            Run(
                "lifeboat restore db --into ../restored/database.sqlite",
                "cd ../tmp/collision-os-restore && sqlite3 database.sqlite 'PRAGMA integrity_check' && cd - && \
                 lifeboat level 5 --watch 0s --confirm collisionos/production --json",
                &["python3 app.py check", "ok", "\"level\":5", "\"within\":true", "\"budget_s\":7200"],
            ),
        ),
        (
            "# Test critical endpoints",
            Run("", "", &["\"name\":\"app\",\"state\":\"pass\"", "vehicle_id", "first_name", "\"token\"", "\"id\""]),
        ),
        (
            "# 1. Disable sync initially",
            Run("", "lifeboat sync check", &["Every 10.0s: curl", "holds what the file holds", "hybrid"]),
        ),
        // Scenarios
        ("# Automatic failover - no action needed!", Run("", "", &["\"enabled\":true", "drained"])),
        ("-- In Supabase SQL Editor", Sql(OF_MINE, &["yours"])),
        ("# 1. Check queue size", Run("", "", &["0", "401"])),
        ("-- In Supabase SQL Editor", Sql(TWICE, &["1 | 2", "(0 rows)"])),
        // Backups
        (
            "# Add to crontab (crontab -e)",
            Cron(
                "touch -d '9 days ago' database.sqlite.backup.20200101; aws s3 mb s3://your-bucket",
                "ls database.sqlite.backup.*; aws s3 ls --recursive s3://your-bucket; lifeboat schedule show",
                &["database.sqlite.backup.2", "backups/collision-os-2", "0 2 * * *", "0 3 * * *", "0 4 * * *"],
            ),
        ),
        ("pg_dump -h your-project", Run("", "cat supabase-backup.sql", &["repair_orders", "database dump complete"])),
        ("# Before major changes", Run("", "", &["Backup created: backups/database-pre-change-"])),
        // Tests
        ("curl -X POST http://localhost:3002/api/sync/disable", Run("", "", &["\"enabled\":true"])),
        ("# Create test operations", Run(ADD_CUSTOMER, "", &["401"])),
        ("# In test environment", Run("", "git status --short --untracked-files=no; cat VERSION", &["3"])),
        (
            "# In test environment",
            Run("", "sqlite3 database-test.sqlite 'PRAGMA integrity_check; SELECT count(*) FROM customers'", &["ok"]),
        ),
        // Monitoring
        ("curl -s http://localhost:3002/api/sync/status | jq '.data.queue.queueSize'", Run("", "", &["0"])),
        ("curl -s http://localhost:3002/api/sync/status | jq '.data.queue.totalFailed'", Run("", "", &["0"])),
        ("curl -s http://localhost:3002/api/sync/status | jq '.data.lastSync'", Run("", "", &["\"20"])),
        ("curl -s https://your-project", Run("", "", &["No API key found"])),
        (
            "#!/bin/bash",
            Run("", "./scripts/monitor-sync.sh --daemon 127.0.0.1:$SYNC_PORT; echo ended with $?", &["ended with 0"]),
        ),
    ]
}

#[test]
fn every_command_of_the_document_works_as_it_is_written() {
    let shop = Shop::open();
    let blocks = blocks(&std::fs::read_to_string(shop.home.path("DISASTER-RECOVERY.md")).unwrap());
    let table = table();
    let first = |block: &Block| block.text.lines().next().unwrap().to_owned();
    let listed: Vec<&str> = table.iter().map(|(begins, _)| *begins).collect();
    let found: Vec<String> = blocks.iter().map(first).collect();
    assert_eq!(found.len(), listed.len(), "{found:#?}");
    for (at, (block, (begins, how))) in blocks.iter().zip(&table).enumerate() {
        assert!(first(block).starts_with(begins), "block {at} is {:?}, and {begins:?} is listed", first(block));
        let (said, wanted) = match how {
            Run(before, after, wanted) => {
                assert_eq!(block.language, "bash", "{begins}");
                let ran = [before, block.text.as_str(), after].map(|text| shop.shell(text));
                (ran.map(|ran| format!("{}\n{}", ran.out, ran.err)).join("\n"), wanted)
            }
            Sql(made, wanted) => (shop.in_cloud(&format!("sql{at}"), made, &block.text), wanted),
            Script(name, wanted) => {
                shop.home.write(name, &block.text);
                let ran = shop.shell(&format!("node {name}")).ends(ExitCode::Ok);
                (format!("{}\n{}", ran.out, ran.err), wanted)
            }
            Cron(before, after, wanted) => {
                let lines = block.text.lines().filter_map(cron_command);
                let ran =
                    [(*before).to_owned()].into_iter().chain(lines).map(|line| shop.shell(&line).ends(ExitCode::Ok));
                ran.for_each(|ran| assert_eq!(ran.err, "", "cron would send a mail"));
                shop.the_file_is_in_the_bucket();
                (shop.setup(after), wanted)
            }
        };
        for wanted in wanted.iter().map(|one| (*one).to_owned()).chain(should_return(&block.text, how)) {
            assert!(said.contains(&wanted), "block {at}, {begins}: {wanted:?} is missing in\n{said}");
        }
    }
    assert!(!shop.home.path("database.sqlite.backup.20200101").exists(), "it was older than seven days");
    shop.home.ran(&["sync", "check"], shop.command("lifeboat sync check").output().unwrap()).ends(ExitCode::Ok);
}

/// What the block itself says that it returns.
fn should_return(text: &str, how: &How) -> Vec<String> {
    let said = text
        .lines()
        .filter_map(|line| line.trim().trim_start_matches(['#', '-']).trim().strip_prefix("Should return: "));
    match how {
        Run(..) => said.map(|word| word.trim().to_owned()).collect(),
        Sql(..) | Script(..) | Cron(..) => Vec::new(),
    }
}

/// What cron runs for a line of a crontab: it ends at a bare percent sign, and a backslash takes that meaning off one.
fn cron_command(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let command = line.splitn(6, ' ').nth(5).unwrap();
    assert_eq!(command.matches('%').count(), command.matches("\\%").count(), "{command}");
    Some(command.replace("\\%", "%"))
}

/// The fenced blocks of a document.
fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for line in document.lines() {
        let inside = line.trim_start();
        match (&mut open, inside.strip_prefix("```")) {
            (None, Some(language)) => {
                let block = Block { language: language.trim().to_owned(), text: String::new() };
                open = Some((line.len() - inside.len(), block));
            }
            (Some(_), Some(_)) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), None) => {
                block.text += line.get(*indent..).unwrap_or_default();
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// The example app as it is shipped, running, mirrored, with the daemon beside it.
pub struct Shop {
    pub home: Home,
    server: Server,
    daemon: Child,
    supabase: Child,
    /// The home of the pm2 that runs the app; not within the app's, as pm2 keeps sockets there.
    pm2: TempDir,
    sync_port: String,
    admin: String,
    bucket: bucket::Server,
}

impl Shop {
    pub fn open() -> Shop {
        let (home, server) = (Home::bare(), Server::start(15));
        server.sql("postgres", "CREATE DATABASE cloud");
        std::fs::remove_file(home.path("shop.db")).unwrap();
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/collisionos"), &home.app());
        let app_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let example = std::fs::read_to_string(home.path(".env.example")).unwrap();
        let cloud = format!("SUPABASE_DB_URL={}", server.url("cloud"));
        let env = example.replace("PORT=3003", &format!("PORT={app_port}"));
        let env = env.lines().map(|line| if line.starts_with("SUPABASE_DB_URL") { &cloud } else { line });
        home.write(".env", env.collect::<Vec<_>>().join("\n") + "\n");
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        // Nothing happens by itself meanwhile.
        let (before, rest) = settings.split_once("# The document's times").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        let settings = format!("{before}{after}").replace("127.0.0.1:3003", &format!("127.0.0.1:{app_port}"));
        home.write("lifeboat.toml", settings);
        let [daemon, supabase] = [(); 2].map(|()| Command::new("true").spawn().unwrap());
        let pm2 = tempfile::tempdir().unwrap();
        let (sync_port, admin, bucket) = (String::new(), String::new(), bucket::Server::start());
        let mut shop = Shop { home, server, daemon, supabase, pm2, sync_port, admin, bucket };
        shop.programs();
        shop.modules();
        shop.setup("git init --quiet --initial-branch=main . && git add . && git commit --quiet -m 1");
        shop.setup(
            "git init --quiet --bare --initial-branch=main ../remote.git && git remote add origin ../remote.git",
        );
        for version in [2, 3] {
            shop.setup(&format!("echo {version} > VERSION && git commit --quiet -am {version}"));
        }
        shop.setup("git tag stable && git push --quiet origin main && npm install && npm run db:migrate && npm start");
        shop.setup("lifeboat shims install && lifeboat backup && lifeboat sync attach --yes");
        shop.admin = shop.setup("lifeboat token add ops --role admin");
        shop.serve();
        shop
    }

    /// The daemon, as a supervisor would start it.
    fn serve(&mut self) {
        let mut command = self.command("exec lifeboat serve --listen 127.0.0.1:0");
        let mut daemon = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://127.0.0.1:").nth(1).unwrap_or_else(|| panic!("{line}"));
        self.sync_port = address.split([' ', ',']).next().unwrap().to_owned();
        self.daemon = daemon;
        // The document's port may be somebody else's on this host; and its project is not there.
        let (supabase, port) = self.project();
        self.supabase = supabase;
        let elsewhere = format!(
            "connect-to = localhost:3002:127.0.0.1:{}\nconnect-to = {PROJECT}:443:127.0.0.1:{port}\ncacert = {}\n",
            self.sync_port,
            self.programs_folder().join("project.crt").display()
        );
        std::fs::write(self.programs_folder().join(".curlrc"), elsewhere).unwrap();
    }

    /// The document's project in the cloud, as it answers somebody without a key.
    fn project(&self) -> (Child, String) {
        let names = format!("subjectAltName=DNS:{PROJECT}");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=test", "-addext", &names, "-keyout", "project.key", "-out", "project.crt"])
            .current_dir(self.programs_folder())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut project = Command::new("python3")
            .args(["-c", PROJECT_SERVER])
            .current_dir(self.programs_folder())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(project.stdout.take().unwrap()).read_line(&mut port).unwrap();
        (project, port.trim().to_owned())
    }

    /// What the document takes for granted, and what stands in for what must not run in a test.
    fn programs(&self) {
        let folder = self.programs_folder();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lifeboat"), folder.join("lifeboat")).unwrap();
        let twins = [
            // What lifeboat starts knows no PM2_HOME, so that of the test is named here.
            ("pm2", format!("export PM2_HOME={}\n{}", self.pm2.path().display(), pm2_script())),
            // It would end programs of strangers.
            ("killall", "echo killall \"$@\" >> killed\n".to_owned()),
            // These two end when somebody who has seen enough presses Ctrl-C.
            ("watch", at_terminal("queueSize")),
            ("tail", at_terminal("GET /api/repair-orders?limit=1 ")),
            // Older ones know no variable for where a server is.
            (
                "aws",
                format!("exec {} --endpoint-url http://{} \"$@\"\n", installed("aws").display(), self.bucket.address),
            ),
        ];
        for (name, script) in twins {
            let path = folder.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Two modules of the app's, as far as the document's script uses them: its Sequelize, and its service that writes to the cloud.
    fn modules(&self) {
        for (folder, name, text) in
            [("server/database", "models.js", MODELS), ("server/services", "databaseServiceHybrid.js", SERVICE)]
        {
            std::fs::create_dir_all(self.home.path(folder)).unwrap();
            self.home.write(&format!("{folder}/{name}"), text);
        }
        std::fs::create_dir(self.home.app().with_file_name("tmp")).unwrap();
        std::fs::create_dir(self.home.app().with_file_name("restored")).unwrap();
    }

    fn programs_folder(&self) -> PathBuf {
        self.home.app().with_file_name("programs")
    }

    /// A shell in the app's folder; what the document leaves open is filled in.
    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
        let path = std::env::join_paths(std::iter::once(self.programs_folder()).chain(path)).unwrap();
        let as_always = self.home.command(&[]);
        let token = "$(curl -s -X POST http://localhost:3002/api/auth/login -d '{\"email\":\"admin@shop.com\",\"password\":\"test\"}' | jq -r .data.token)";
        let text = text
            .replace("YOUR_ADMIN_TOKEN", &self.admin)
            .replace("'Authorization: Bearer TOKEN'", "\"Authorization: Bearer TOKEN\"")
            .replace("<commit-hash>", "stable")
            .replace("cd /tmp\n", "cd ../tmp\n");
        let (app, restored) = (self.home.app(), self.home.app().with_file_name("restored"));
        let text = text
            .replace("/path/to/collision-os", &app.display().to_string())
            .replace("/path/to/restored", &restored.display().to_string())
            .replace("/path/to/backup/.env", &app.join(".env").display().to_string());
        let text = text.replace("Bearer TOKEN", &format!("Bearer {token}"));
        command.current_dir(self.home.app()).stdin(Stdio::null()).env_clear();
        command.envs(as_always.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
        // The document's project is a placeholder; the cloud's server takes its place.
        let cloud = format!("-h '{}' -U postgres -d cloud", self.server.socket_folder().display());
        let text = text.replace("-h your-project.supabase.co -U postgres -d postgres", &cloud);
        command.args(["-c", &text]).env("CURL_HOME", self.programs_folder()).env("SYNC_PORT", &self.sync_port);
        command
            .env("GIT_EDITOR", "true")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("npm_config_update_notifier", "false");
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_DEFAULT_REGION", "us-east-1");
        let repository = format!("url.{}.insteadOf", self.home.app().with_file_name("remote.git").display());
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", repository);
        command.env("GIT_CONFIG_VALUE_0", "https://github.com/your-repo/collision-os.git");
        command.env("npm_config_audit", "false").env("npm_config_fund", "false");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "shop").env(format!("GIT_{who}_EMAIL"), "shop@localhost");
        }
        command
    }

    pub fn shell(&self, text: &str) -> Ran {
        let output: Output = self.command(text).output().unwrap();
        self.home.ran(&[text], output)
    }

    pub fn setup(&self, text: &str) -> String {
        self.shell(text).ends(ExitCode::Ok).out.trim().to_owned()
    }

    /// What `aws s3 cp` has brought there is what the file is, byte for byte, as another client than that one sees it.
    fn the_file_is_in_the_bucket(&self) {
        let bucket = S3Settings { bucket: "your-bucket".into(), ..self.bucket.settings("backups") };
        let bucket = S3::new(&bucket).unwrap();
        let [sent] = bucket.list("").unwrap().try_into().unwrap();
        assert!(bucket.get(&sent.key).unwrap() == std::fs::read(self.home.path("database.sqlite")).unwrap());
    }

    /// Statements in a database of their own.
    fn in_cloud(&self, name: &str, made: &str, statements: &str) -> String {
        self.server.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.server.sql(name, made);
        let url = quoted(&self.server.url(name));
        let psql = format!("printf %s {} | psql -v ON_ERROR_STOP=1 {url}", quoted(statements));
        let ran = self.shell(&psql).ends(ExitCode::Ok);
        ran.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.supabase] {
            let _ = child.kill();
            let _ = child.wait();
        }
        end_pm2(self.pm2.path());
    }
}

/// Where a program is.
fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("there is no {name}; ./test installs it"))
}

/// A program that runs the real one of its name as a person does, until that is shown.
fn at_terminal(shown: &str) -> String {
    format!("exec python3 -c {} \"$(basename \"$0\")\" {} \"$@\"\n", quoted(TERMINAL), quoted(shown))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "{} is a folder", path.display());
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
