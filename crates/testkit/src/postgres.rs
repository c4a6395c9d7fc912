//! Throwaway PostgreSQL servers: each test has its own cluster, of the version it asks for, gone when dropped.
//!
//! `tools/postgres-for-tests` brings the programs; a version that is missing makes the test fail. A cluster is a copy of
//! a template that `initdb` made once, listens on a socket in a short folder of its own, and ends when the test does,
//! however that ends: the kernel tells the server. Nothing but the standard library and `tempfile` is used here, so that
//! the tests of `lifeboat-io`, which may not know this crate, can include the file.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The versions that every test of backup and restore runs against.
pub const MAJORS: [u32; 3] = [13, 15, 16];
/// Servers that are newer than the clients of this system.
pub const NEWER: [u32; 2] = [17, 18];

/// The user that servers run as when we are root, since a server refuses root: `nobody`.
const UNPRIVILEGED: &str = "65534";
/// How long a server may take to start or to end.
const SERVER_WAIT_MAX: Duration = Duration::from_secs(60);

/// A Supabase project as the platform and an app make it, in database `postgres`; for [`Server::supabase`].
const SUPABASE: &str = include_str!("supabase.sql");
/// The superuser of a Supabase project; the customer's role `postgres` is none.
const SUPABASE_SUPERUSER: &str = "supabase_admin";

/// How a server is to be.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Settings as in `postgresql.conf`, added to ours.
    pub settings: Vec<(String, String)>,
    /// The lines of `pg_hba.conf`; trust everybody when there are none.
    pub hba: Vec<String>,
    /// Whether it listens on `127.0.0.1` too.
    pub tcp: bool,
    /// Whether it speaks TLS, with a certificate for `localhost` that signs itself.
    pub tls: bool,
    /// A folder for a tablespace, [`Server::small_disk`], on a disk of its own that holds so many MiB.
    pub small_disk_mib: Option<u32>,
}

impl ServerOptions {
    /// With one more setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> ServerOptions {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A running server. Ended, and its folder removed, when dropped.
pub struct Server {
    /// Its major version.
    pub major: u32,
    /// Its port; also a part of the socket's name.
    pub port: u16,
    /// Its superuser.
    pub superuser: &'static str,
    folder: tempfile::TempDir,
    child: Child,
    options: ServerOptions,
}

impl Server {
    /// A fresh cluster with one superuser, `postgres`.
    pub fn start(major: u32) -> Server {
        Server::with(major, ServerOptions::default())
    }

    /// The same, in the way asked for.
    pub fn with(major: u32, options: ServerOptions) -> Server {
        Server::on_copy_of(&template(major), major, options)
    }

    /// A Supabase project with a small app in it: the platform's roles, schemas, grants and default privileges; accounts,
    /// policies that ask who is asking, a trigger on the accounts, and things outside of `public` that look into it.
    pub fn supabase(major: u32, options: ServerOptions) -> Server {
        let mut server = Server::with(major, options);
        // The first superuser cannot become less; under the platform's name another `postgres` can be made.
        server.sql("postgres", "CREATE ROLE lifeboat_setup LOGIN SUPERUSER");
        server.superuser = "lifeboat_setup";
        server.sql("postgres", "ALTER ROLE postgres RENAME TO supabase_admin");
        server.superuser = SUPABASE_SUPERUSER;
        server.sql(
            "postgres",
            "DROP ROLE lifeboat_setup; CREATE ROLE postgres LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS",
        );
        server.sql("postgres", SUPABASE);
        server
    }

    /// Another server that holds the same. Nobody may be writing to this one meanwhile.
    pub fn copy(&self) -> Server {
        self.sql("postgres", "CHECKPOINT");
        let mut copy = Server::on_copy_of(&self.data_folder(), self.major, self.options.clone());
        copy.superuser = self.superuser;
        copy
    }

    fn on_copy_of(data: &Path, major: u32, options: ServerOptions) -> Server {
        let folder = tempfile::Builder::new().prefix("lbpg").tempdir_in(home()).unwrap();
        // The server is another user: it must be able to walk through, nobody else to look around.
        make_readable(folder.path());
        run("cp", &["-a", &show(data), &show(&folder.path().join("data"))]);
        let _ = fs::remove_file(folder.path().join("data/postmaster.pid")); // of the one that was copied
        // A free port, so that servers of several tests can listen on 127.0.0.1 beside each other.
        let port =
            if options.tcp { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() } else { 5432 };
        let sockets = folder.path().join("s");
        fs::create_dir(&sockets).unwrap();
        give_away(&sockets);
        configure(folder.path(), &options, port);
        let child = launch(major, folder.path(), &options);
        let mut server = Server { major, port, superuser: "postgres", folder, child, options };
        server.wait_until_ready();
        server
    }

    /// The folder of its socket: what `host` is in a connection string.
    pub fn socket_folder(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Its data folder.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder that is on a small disk, as the server sees it. Empty again after a restart.
    pub fn small_disk(&self) -> PathBuf {
        self.folder.path().join("small")
    }

    /// A connection string for the superuser, over the socket.
    pub fn url(&self, database: &str) -> String {
        self.url_as(self.superuser, database)
    }

    /// A connection string for a role, over the socket.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("host={} port={} user={role} dbname='{database}'", self.socket_folder().display(), self.port)
    }

    /// Runs statements with `psql`, which ends at the first that fails; gives back its output without headings.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = self.try_sql(self.superuser, database, statements);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql ended with {}: {told}\n{statements}", output.status);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The same as some role, whatever becomes of it.
    pub fn try_sql(&self, role: &str, database: &str, statements: &str) -> Output {
        let mut child = self
            .psql(role, database)
            .args(["-v", "ON_ERROR_STOP=1", "-qAt", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = statements.to_owned();
        let feeder = std::thread::spawn(move || {
            let _ = input.write_all(text.as_bytes()); // it may have ended at a bad statement
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    /// A `psql` that is ready to be started.
    pub fn psql(&self, role: &str, database: &str) -> Command {
        let mut command = Command::new("/usr/lib/postgresql/15/bin/psql");
        let port = self.port.to_string();
        command.env("PGHOST", self.socket_folder()).env("PGPORT", port).env("PGUSER", role).env("PGDATABASE", database);
        command.arg("-X");
        command
    }

    /// The number of its first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would, and starts it again: `immediate` shutdown, then recovery.
    pub fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    /// Starts it again after [`Server::crash`]; it recovers first.
    pub fn restart(&mut self) {
        self.child = launch(self.major, self.folder.path(), &self.options);
        self.wait_until_ready();
    }

    /// Ends it as a power cut would; one that has ended already stays as it is.
    pub fn crash(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            signal(&self.child, "QUIT");
            self.child.wait().unwrap();
        }
    }

    fn wait_until_ready(&mut self) {
        let until = Instant::now() + SERVER_WAIT_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("PostgreSQL {} ended with {status}: {}", self.major, self.log());
            }
            let status = fs::read_to_string(self.data_folder().join("postmaster.pid")).unwrap_or_default();
            if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            assert!(Instant::now() < until, "PostgreSQL {} does not start: {}", self.major, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The certificate to trust when it speaks TLS.
    pub fn certificate(&self) -> PathBuf {
        assert!(self.options.tls, "this server has no certificate");
        self.folder.path().join("root.crt")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            signal(&self.child, "QUIT");
            let _ = self.child.wait();
        }
    }
}

/// Where the programs of a server are.
pub fn server_programs(major: u32) -> PathBuf {
    let folder = if major == 15 { "/usr/lib/postgresql/15/bin".into() } else { cache().join(format!("{major}/bin")) };
    assert!(folder.join("postgres").exists(), "PostgreSQL {major} is missing: run tools/postgres-for-tests");
    folder
}

/// Where `pg_dump`, `pg_restore` and `psql` of a version are. There are those of 15, 16 and 18.
pub fn client_programs(major: u32) -> PathBuf {
    let packaged = cache().join(format!("clients/{major}/bin"));
    let folder = if major == 15 { "/usr/lib/postgresql/15/bin".into() } else { packaged };
    assert!(folder.join("pg_dump").exists(), "the clients of {major} are missing: run tools/postgres-for-tests");
    folder
}

fn cache() -> PathBuf {
    match std::env::var_os("LIFEBOAT_TEST_POSTGRES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres"),
    }
}

/// Where servers are made: `./test` names a folder in memory, where there is plenty of it. A proof copies a server dozens
/// of times.
fn home() -> PathBuf {
    std::env::var_os("LIFEBOAT_TEST_SERVERS").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A fresh cluster of that version, made once and copied from then on.
fn template(major: u32) -> PathBuf {
    let programs = server_programs(major);
    fs::create_dir_all(cache()).unwrap();
    let template = cache().join(format!("template-{major}"));
    let lock = File::create(cache().join(format!("template-{major}.lock"))).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let work = tempfile::Builder::new().prefix("lbpg").tempdir().unwrap();
        make_readable(work.path());
        let partial = work.path().join("data");
        fs::create_dir(&partial).unwrap();
        give_away(&partial);
        let mut initdb = as_server_user(&programs.join("initdb"));
        initdb.args(["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres", "--no-sync", "-k", "-D"]);
        let output = initdb.arg(&partial).output().unwrap();
        assert!(output.status.success(), "initdb of {major}: {}", String::from_utf8_lossy(&output.stderr));
        let beside = cache().join(format!("template-{major}.partial"));
        let _ = fs::remove_dir_all(&beside);
        run("cp", &["-a", &show(&partial), &show(&beside)]);
        fs::rename(&beside, &template).unwrap();
    }
    template
}

fn configure(folder: &Path, options: &ServerOptions, port: u16) {
    let mut text = format!(
        "port = {port}\nunix_socket_directories = '{}'\nlisten_addresses = '{}'\nfsync = off\nmax_connections = 60\n\
         max_prepared_transactions = 10\nshared_buffers = 32MB\nwal_level = logical\n",
        folder.join("s").display(),
        if options.tcp { "127.0.0.1" } else { "" },
    );
    if options.tls {
        make_certificate(folder);
        let _ =
            writeln!(text, "ssl = on\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'", show(folder));
    }
    for (name, value) in &options.settings {
        let _ = writeln!(text, "{name} = '{value}'");
    }
    let data = folder.join("data");
    fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap().write_all(text.as_bytes()).unwrap();
    if !options.hba.is_empty() {
        fs::write(data.join("pg_hba.conf"), options.hba.join("\n") + "\n").unwrap();
    }
    fs::write(folder.join("log"), "").unwrap();
}

fn launch(major: u32, folder: &Path, options: &ServerOptions) -> Child {
    let log = fs::OpenOptions::new().append(true).open(folder.join("log")).unwrap();
    let mut server = as_server_user(&server_programs(major).join("postgres"));
    server.arg("-D").arg(folder.join("data"));
    if let Some(mib) = options.small_disk_mib {
        server = with_small_disk(&server, &folder.join("small"), mib);
    }
    server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The same command in a mount namespace of its own, in which that folder is a small disk; gone with the server.
fn with_small_disk(server: &Command, folder: &Path, mib: u32) -> Command {
    fs::create_dir_all(folder).unwrap();
    // Who is not root is made root for the mount, and nobody in particular again, since a server refuses root.
    let (namespaces, owner, back) = match is_root() {
        true => ("-m", format!(",uid={UNPRIVILEGED}"), String::new()),
        false => ("-rm", String::new(), format!("unshare -U --map-user={UNPRIVILEGED} --map-group={UNPRIVILEGED}")),
    };
    let script = format!("mount -t tmpfs -o size={mib}m,mode=0700{owner} none \"$0\" && exec {back} \"$@\"");
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", &script]).arg(folder);
    command.arg(server.get_program()).args(server.get_args()).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// A root certificate, and one for `localhost` that it signed.
fn make_certificate(folder: &Path) {
    let at = |name: &str| show(&folder.join(name));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=lifeboat test root",
            "-keyout",
            &at("root.key"),
            "-out",
            &at("root.crt"),
        ],
    );
    run(
        "openssl",
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &at("server.key"),
            "-out",
            &at("server.csr"),
        ],
    );
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &at("server.csr"),
            "-CA",
            &at("root.crt"),
            "-CAkey",
            &at("root.key"),
            "-CAcreateserial",
            "-days",
            "30",
            "-extfile",
            &at("names"),
            "-out",
            &at("server.crt"),
        ],
    );
    run("chmod", &["600", &at("server.key")]);
    for name in ["server.key", "server.crt", "root.crt"] {
        give_away(&folder.join(name));
    }
}

/// A program as the user that servers run as, which ends when we do.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|facts| facts.uid() == 0)
}

fn give_away(path: &Path) {
    if is_root() {
        run("chown", &["-R", &format!("{UNPRIVILEGED}:{UNPRIVILEGED}"), &show(path)]);
    }
}

fn make_readable(folder: &Path) {
    if is_root() {
        run("chmod", &["711", &show(folder)]);
    }
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn show(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
