//! A throwaway world: a shop's folder with a live database, files and an env file, a vault, a state folder, and doors
//! whose clock and chance belong to the test. Gone when dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lifeboat_engine::{Copy, Engine, Perform, Setup, Unwatched, Vaults, act::Hands, act::vault_failure};
use lifeboat_io::{
    Io, ObjectStore, Stop, SystemExec,
    database::sqlite,
    objects::folder::Folder,
    testing::{ManualClock, MapEnv, SeededRandom},
};
use lifeboat_model::{
    Backup, BackupChoice, BackupReason, Elsewhere, Failure, Operation, OperationState, Request, Resource, ResourceKind,
    ResourceName, Scope, Target, Tri, VaultName,
    sync::{Link, Said},
};
use lifeboat_store::{StateFolder, vault::Vault};
use rusqlite::Connection;
use secrecy::SecretString;

use crate::{databases, postgres::Server};

/// The password of every vault in a test.
pub const PASSWORD: &str = "a password for tests";

/// Where a second vault lies, for worlds that are told of it.
pub const COPY: &str = "the copy";

/// What a person would see when looking at the world; two worlds with the same look hold the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Each resource's content, by name: tables with rows and digests, files with contents; `nothing` when it is gone.
    pub live: BTreeMap<String, String>,
    /// Databases that an operation has kept on the server, by their names without what differs from run to run.
    pub kept: BTreeMap<String, String>,
    /// What lies about where nothing should: working copies, half-written files, half-filled databases.
    pub debris: BTreeSet<String>,
}

/// The world.
pub struct World {
    home: tempfile::TempDir,
    /// Its time.
    pub clock: Arc<ManualClock>,
    /// Its chance.
    pub random: Arc<SeededRandom>,
    /// Its vaults.
    pub vaults: Arc<OneVault>,
    /// What is protected.
    pub setup: Setup,
    /// Its doors.
    pub io: Io,
    /// The server of its database, when it is on one.
    pub server: Option<Arc<Mutex<Server>>>,
}

impl World {
    /// A shop with a SQLite database of a few tables, uploads and an env file.
    pub fn shop() -> World {
        World::with_seed(1)
    }

    /// The same, with another chance.
    pub fn with_seed(seed: u64) -> World {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("app")).unwrap();
        make_shop(&home.path().join("app/shop.db"), 40);
        fs::create_dir_all(home.path().join("app/uploads/2026")).unwrap();
        fs::write(home.path().join("app/uploads/logo \"x\".svg"), "<svg/>").unwrap();
        fs::write(home.path().join("app/uploads/2026/empty"), "").unwrap();
        fs::write(home.path().join("app/.env"), "# keys\nSTRIPE_KEY=sk_live_canary\nDEBUG=1\n").unwrap();
        World::around(home, seed)
    }

    /// A shop whose only resource is a database, `shop`, on a throwaway server of that version.
    pub fn on_server(major: u32) -> World {
        let server = databases::shop_server(major);
        let mut world = World::around(tempfile::tempdir().unwrap(), 1);
        world.setup.resources.truncate(1);
        world.setup.resources[0].kind =
            ResourceKind::Postgres { url: databases::url("postgres", "shop"), schemas: vec![] };
        world.on(server)
    }

    /// A Supabase project; the resource is its database, as the customer's role sees it.
    pub fn on_supabase(major: u32) -> World {
        let options = crate::postgres::ServerOptions::default().set("autovacuum", "off");
        let mut world = World::around(tempfile::tempdir().unwrap(), 1);
        world.setup.resources.truncate(1);
        world.setup.resources[0].kind =
            ResourceKind::Postgres { url: databases::url("postgres", "postgres"), schemas: vec![] };
        world.on(Server::supabase(major, options))
    }

    fn on(mut self, server: Server) -> World {
        self.vaults.server_is(&server.socket_folder());
        self.server = Some(Arc::new(Mutex::new(server)));
        self
    }

    /// Runs statements in a database of the world's server; gives back what `psql` printed.
    pub fn psql(&self, database: &str, statements: &str) -> String {
        self.server().sql(database, statements)
    }

    /// The world's server.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.as_ref().unwrap().lock().unwrap()
    }

    fn around(home: tempfile::TempDir, seed: u64) -> World {
        let clock = Arc::new(ManualClock::default());
        let random = Arc::new(SeededRandom::new(seed));
        let env = Arc::new(MapEnv::default());
        let io = Io { clock: clock.clone(), random: random.clone(), env, exec: Arc::new(SystemExec) };
        let store: Arc<dyn ObjectStore> = Arc::new(Folder::new(home.path().join("vault")));
        let vaults = Arc::new(OneVault::new(store, io.clone(), home.path().join("vault")));
        vaults.add(COPY, Arc::new(Folder::new(home.path().join("the-copy"))));
        let app = home.path().join("app");
        let resource = |name: &str, kind| Resource::plain(ResourceName::new(name).unwrap(), kind);
        let scope = Scope { app: "shop".into(), environment: "production".into() };
        let mut setup = Setup::new(scope, "the vault");
        setup.resources = vec![
            resource("db", ResourceKind::Sqlite { path: app.join("shop.db") }),
            resource("uploads", ResourceKind::Files { path: app.join("uploads"), exclude: vec![] }),
            resource("env", ResourceKind::Env { path: app.join(".env") }),
        ];
        World { home, clock, random, vaults, setup, io, server: None }
    }

    /// A world that holds the same, in a folder of its own: for trying the same thing many times. Journals in it name
    /// paths in the first world's folder; what was done there cannot be undone or resumed here.
    pub fn copy(&self) -> World {
        let home = tempfile::tempdir().unwrap();
        copy_folder(self.home.path(), home.path());
        let mut world = World::around(home, self.random.bits_of_now());
        world.clock.jump_to(lifeboat_io::Clock::now(&*self.clock));
        world.setup.scope = self.setup.scope.clone();
        world.setup.keep = self.setup.keep.clone();
        world.setup.budgets_ms = self.setup.budgets_ms.clone();
        world.setup.copies = self.setup.copies.clone();
        world.setup.swaps = self.setup.swaps.clone();
        let known = |mine: &Resource| self.setup.resources.iter().any(|theirs| theirs.name == mine.name);
        world.setup.resources.retain(known);
        for (mine, theirs) in world.setup.resources.iter_mut().zip(&self.setup.resources) {
            mine.writer = theirs.writer.clone();
            mine.critical_tables = theirs.critical_tables.clone();
            mine.may_be_empty = theirs.may_be_empty.clone();
            mine.owner_columns.clone_from(&theirs.owner_columns);
            mine.salvage_columns.clone_from(&theirs.salvage_columns);
            let on_server = matches!(theirs.kind, ResourceKind::Postgres { .. });
            mine.kind = if on_server { theirs.kind.clone() } else { mine.kind.clone() };
        }
        for link in &self.setup.links {
            let file = world.app(link.file.file_name().unwrap().to_str().unwrap());
            let env_file = link.env_file.as_ref().map(|_| world.app(".env"));
            world.setup.links.push(Link { file, env_file, ..link.clone() });
        }
        let (from, to) = (self.home.path(), world.home.path().to_owned());
        world.setup.targets = match self.setup.targets.first() {
            None => vec![],
            Some(target) if target.driver.is_some() => vec![crate::delivered::moved(target, from, &to)],
            Some(target) => vec![Target { tells: target.tells.clone(), ..crate::code::target(&world) }],
        };
        for (name, said) in &self.setup.migrations {
            let mut said = said.clone();
            said.folder = to.join(said.folder.strip_prefix(from).unwrap());
            world.setup.migrations.insert(name.clone(), said);
        }
        let world = if self.setup.elsewhere.is_empty() { world } else { world.with_elsewhere() };
        match &self.server {
            Some(server) => world.on(server.lock().unwrap().copy()),
            None => world,
        }
    }

    /// A request that was made for another world, for this one: a place to write to lies in this one. What is only read
    /// may stay where it is.
    pub fn request_here(&self, request: &Request, there: &World) -> Request {
        let mut request = request.clone();
        if let Request::Export { to, .. } = &mut request {
            let below = to.strip_prefix(there.home.path()).map(Path::to_owned);
            *to = below.map_or_else(|_elsewhere| to.clone(), |below| self.home.path().join(below));
        }
        request
    }

    /// A path in the app's folder.
    pub fn app(&self, name: &str) -> PathBuf {
        self.home.path().join("app").join(name)
    }

    /// A path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The state folder.
    pub fn state(&self) -> StateFolder {
        StateFolder::open(&self.home.path().join("state")).unwrap()
    }

    /// An engine with real hands.
    pub fn engine(&self) -> Engine {
        self.clock.advance(Duration::from_secs(1));
        Engine::new(self.io.clone(), self.state(), self.setup.clone(), self.vaults.clone())
    }

    /// An engine whose hands are wrapped.
    pub fn engine_with(&self, wrap: impl FnOnce(Hands) -> Arc<dyn Perform>) -> Engine {
        self.clock.advance(Duration::from_secs(1));
        let hands = Hands::new(self.io.clone(), self.state(), self.setup.clone(), self.vaults.clone());
        Engine::with_hands(self.io.clone(), self.state(), self.setup.clone(), self.vaults.clone(), wrap(hands))
    }

    /// What an operation keeps of rows that left.
    pub fn kept_rows(&self, operation: &Operation) -> lifeboat_model::Salvage {
        let file = self.state().salvage(&operation.id).join("manifest.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    /// Plans and runs, and expects it to be done.
    pub fn must(&self, request: &Request) -> Operation {
        let operation = self.run(request).unwrap_or_else(|failure| panic!("{request:?}: {failure}"));
        assert_eq!(operation.state, OperationState::Done, "{request:?}");
        operation
    }

    /// Plans and runs.
    pub fn run(&self, request: &Request) -> Result<Operation, Failure> {
        let engine = self.engine();
        let plan = engine.plan(request)?;
        engine.run(&plan, "tester", &Unwatched, &Stop::default()).map_err(|error| error.failure)
    }

    /// Tells the world of a second vault; its name is `offsite`.
    pub fn with_copy(mut self) -> World {
        let name = VaultName::new("offsite").unwrap();
        let keep = self.setup.keep.clone();
        self.setup.copies = vec![Copy { name, location: COPY.to_owned(), keep, after_backup: false }];
        self
    }

    /// Tells the world where plain files of the database go.
    pub fn with_elsewhere(mut self) -> World {
        self.vaults.add("s3://bucket/plain", Arc::new(Folder::new(self.path("plain"))));
        let to = Elsewhere { place: "s3://bucket/plain".to_owned(), name: "shop-YYYYMMDD.db".to_owned() };
        self.setup.elsewhere = BTreeMap::from([(self.setup.resources[0].name.clone(), to)]);
        self
    }

    /// A backup of everything, by hand.
    pub fn backup(&self) -> Operation {
        self.must(&backup_of(&[]))
    }

    /// A restore of a resource in place, from the newest backup.
    pub fn restore(&self, resource: &str) -> Operation {
        self.must(&restore_of(resource))
    }

    /// All backups.
    pub fn backups(&self) -> Vec<Backup> {
        self.engine().backups().unwrap()
    }

    /// Writes rows into the live shop, as the app would, leaving a `-wal` behind.
    pub fn sell(&self, orders: u32) {
        let db = Connection::open(self.app("shop.db")).unwrap();
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        sell(&db, orders);
    }

    /// Copies the live shop's database as a script would.
    pub fn copy_database(&self, to: &Path) {
        let db = Connection::open(self.app("shop.db")).unwrap();
        db.execute("VACUUM INTO ?1", [to.display().to_string()]).unwrap();
    }

    /// What the world holds.
    pub fn look(&self) -> Look {
        let live = self.setup.resources.iter().map(|resource| (resource.name.to_string(), content(&resource.kind)));
        let mut live: BTreeMap<String, String> = live.collect();
        live.insert("exports".to_owned(), self.exports());
        if !self.setup.copies.is_empty() {
            self.copied();
        }
        if !self.setup.elsewhere.is_empty() {
            self.sent();
        }
        if let Some(target) = self.setup.targets.first() {
            let is_delivered = target.driver.is_some();
            let code = if is_delivered { crate::delivered::look(self) } else { crate::code::look(self) };
            live.insert("code".to_owned(), code);
        }
        for link in &self.setup.links {
            live.insert(format!("mirror {}", link.name), self.mirrored_rows(link));
        }
        let (mut kept, mut debris) = (BTreeMap::new(), self.debris());
        for resource in &self.setup.resources {
            let ResourceKind::Postgres { url, .. } = &resource.kind else { continue };
            let seen = databases::look(&self.vaults.database(url).unwrap());
            live.insert(resource.name.to_string(), seen.live);
            kept.extend(seen.kept);
            debris.extend(seen.debris);
        }
        Look { live, kept, debris }
    }

    /// Tells the world of a mirror of its SQLite file, in the database `shop` of a server of its own; nothing is in it yet.
    #[must_use]
    pub fn with_mirror(mut self, major: u32) -> World {
        self.setup.links = vec![Link {
            name: ResourceName::new("cloud").unwrap(),
            file: self.app("shop.db"),
            cloud: databases::url("postgres", "shop"),
            schema: "mirror".into(),
            tables: vec![],
            makes_tables: true,
            batch_rows: 500,
            batch_rows_max: 20_000,
            resync_rows: None,
            interval_ms: 1_000,
            delete_share_percent: 20,
            said: Said::default(),
            env_file: None,
        }];
        self.on(databases::shop_server(major))
    }

    /// What a mirror holds in the cloud, and whether it is switched on.
    fn mirrored_rows(&self, link: &Link) -> String {
        let memory = lifeboat_store::MirrorMemory::open(&self.state().mirror(&self.setup.scope, &link.name)).unwrap();
        let is_on = memory.switch().unwrap().is_some_and(|switch| switch.enabled);
        if self.server.is_none() {
            return format!("on: {is_on}");
        }
        let asked =
            format!("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = '{}' ORDER BY 1", link.schema);
        let tables = self.psql("shop", &asked);
        let rows = tables.lines().filter(|name| !name.is_empty()).map(|name| {
            let asked = format!("SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {}.{name} t", link.schema);
            format!("{name} {}", self.psql("shop", &asked).trim())
        });
        format!("on: {is_on}; {}", rows.collect::<Vec<_>>().join("; "))
    }

    /// Which backups the second vault holds; each must be whole. A copy that breaks off keeps what has gone over, so this
    /// is no part of how the world looks.
    pub fn copied(&self) -> Vec<String> {
        if !self.vaults.exists(COPY).unwrap() {
            return Vec::new();
        }
        let vault = self.vaults.open(COPY).unwrap();
        let snapshots = vault.snapshots().unwrap();
        snapshots.iter().for_each(|snapshot| {
            vault.verify_snapshot(snapshot).unwrap();
        });
        let backups = lifeboat_engine::act::summary::backups(&vault).unwrap();
        backups.iter().map(|backup| backup.id.to_string()).collect()
    }

    /// The plain files elsewhere, each of which is whole.
    pub fn sent(&self) -> Vec<PathBuf> {
        let sent = files_below(&self.path("plain"));
        for file in &sent {
            assert_eq!(sqlite::quick_check(file, Duration::from_secs(9)).sound, Tri::Pass, "{}", file.display());
        }
        sent
    }

    /// What was exported to `exports`. The document about it tells ids and times, which differ from run to run.
    fn exports(&self) -> String {
        let top = self.path("exports");
        let part = |file: &PathBuf| {
            let name = file.strip_prefix(&top).unwrap().display().to_string();
            let differs = name.ends_with("export.json") || name.ends_with(".age"); // is another each time
            if differs { name } else { format!("{name} {:?}", fs::read(file).unwrap()) }
        };
        files_below(&top).iter().map(part).collect::<Vec<_>>().join("; ")
    }

    fn debris(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for folder in ["state/staging", "state/sandbox", "vault/locks"] {
            for path in files_below(&self.path(folder)) {
                found.insert(format!("{folder}: {}", path.display()));
            }
        }
        let half_made = fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path());
        let below = ["app", "vault"].map(|folder| files_below(&self.path(folder)));
        for path in below.into_iter().flatten().chain(half_made) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.contains(".lifeboat-") || name.contains(".partial") {
                found.insert(name);
            }
        }
        found
    }
}

/// A request for a backup of these resources, or all.
pub fn backup_of(resources: &[&str]) -> Request {
    let resources = resources.iter().map(|name| ResourceName::new(*name).unwrap()).collect();
    Request::Backup { resources, reason: BackupReason::Manual, label: None }
}

/// What happens in a shop after a backup: three rows come, two change, one goes.
pub const SINCE: &str = "
    INSERT INTO customers (email) VALUES ('new@example.org');
    INSERT INTO orders (customer, cents) VALUES (21, 1001), (21, 1002), (3, 1003);
    UPDATE orders SET cents = cents + 5000 WHERE id IN (7, 8);
    DELETE FROM orders WHERE id = 9;
    INSERT INTO log VALUES ('a'), ('a');";

/// A request for a restore in place from the newest backup.
pub fn restore_of(resource: &str) -> Request {
    let resource = ResourceName::new(resource).unwrap();
    Request::Restore {
        resource,
        from: BackupChoice::Latest,
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: lifeboat_model::AcceptLoss::Shown,
        urgent: None,
        ack: None,
    }
}

/// Makes a small shop: customers, orders that refer to them, a table without rowid, an index, a trigger, a view.
pub fn make_shop(path: &Path, orders: u32) {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.execute_batch(
        "PRAGMA user_version = 7;
         CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL);
         CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER NOT NULL REFERENCES customers,
                              cents INTEGER NOT NULL CHECK (cents >= 0), note TEXT, created_at TEXT NOT NULL);
         CREATE TABLE settings (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
         CREATE INDEX orders_by_customer ON orders (customer);
         CREATE VIEW turnover AS SELECT customer, sum(cents) AS cents FROM orders GROUP BY customer;
         CREATE TRIGGER no_negative BEFORE UPDATE ON orders WHEN new.cents < 0
             BEGIN SELECT raise(ABORT, 'no'); END;
         INSERT INTO customers SELECT value, 'customer ' || value, '2026-01-01' FROM (
             WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 10) SELECT value FROM n);
         INSERT INTO settings VALUES ('currency', 'EUR'), ('tax', 0.19), ('logo', x'00ff');",
    )
    .unwrap();
    sell(&db, orders);
}

/// Runs statements in WAL mode as an app that is killed then: what it wrote is in the `-wal` that it leaves behind.
pub fn sql_and_killed(path: &Path, statements: &str) {
    let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", path.display())));
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.execute_batch(statements).unwrap();
    let left = files.each_ref().map(|file| fs::read(file).unwrap());
    drop(db);
    files.iter().zip(left).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
}

/// Runs statements on a database, as an app would.
pub fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

/// Adds orders in one transaction.
pub fn sell(db: &Connection, orders: u32) {
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..orders {
        db.execute(
            "INSERT INTO orders (customer, cents, note, created_at)
             SELECT 1 + abs(random()) % 10, 100 + (SELECT count(*) FROM orders), 'order ' || (SELECT count(*) FROM orders),
                    '2026-01-02'",
            [],
        )
        .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// The content of a resource, as text that is equal when the content is.
pub fn content(kind: &ResourceKind) -> String {
    if kind.path().is_none_or(|path| !path.exists()) {
        return "nothing".to_owned();
    }
    match kind {
        ResourceKind::Sqlite { path } => {
            // Through a copy, since looking at a live database could change what lies beside it.
            let copies = tempfile::tempdir().unwrap();
            let copy = copies.path().join("copy");
            let clock = lifeboat_io::SystemClock::default();
            let captured =
                sqlite::capture(path, &copy, sqlite::CaptureOptions::default(), &clock, &Stop::default(), &|_, _| ());
            if captured.is_err() {
                return format!("unreadable, {} bytes", fs::metadata(path).unwrap().len());
            }
            let facts = sqlite::inspect(&copy, &Stop::default(), &|_, _| ()).unwrap();
            // What a mirror notes in the file is another each time.
            let tables = facts.tables.iter().filter(|(name, _)| !name.starts_with("_lifeboat_"));
            let tables = tables.map(|(name, table)| format!("{name} {} {}", table.rows, table.digest));
            format!("version {} {}", facts.user_version, tables.collect::<Vec<_>>().join("; "))
        }
        ResourceKind::Files { path, .. } => {
            let files = files_below(path).into_iter();
            let parts = files
                .map(|file| format!("{} {:?}", file.strip_prefix(path).unwrap().display(), fs::read(&file).unwrap()));
            parts.collect::<Vec<_>>().join("; ")
        }
        ResourceKind::Postgres { url, .. } => format!("the database {url}"),
        ResourceKind::Env { path } => fs::read_to_string(path).unwrap(),
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if let Ok(leads_to) = fs::read_link(&file) {
            let here = leads_to.strip_prefix(from).map_or_else(|_| leads_to.clone(), |inside| to.join(inside));
            std::os::unix::fs::symlink(here, &target).unwrap();
            continue;
        }
        fs::copy(&file, &target).unwrap();
    }
}

trait BitsOfNow {
    fn bits_of_now(&self) -> u64;
}

impl BitsOfNow for SeededRandom {
    fn bits_of_now(&self) -> u64 {
        lifeboat_io::Random::bits(self)
    }
}

/// Vaults with one in them, opened once; and others beside it, by their locations.
pub struct OneVault {
    store: Arc<dyn ObjectStore>,
    io: Io,
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Arc<Vault>>>,
    others: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
    server: Mutex<Option<PathBuf>>,
}

impl OneVault {
    /// A vault on a store.
    pub fn new(store: Arc<dyn ObjectStore>, io: Io, folder: PathBuf) -> OneVault {
        OneVault { store, io, folder, open: Mutex::default(), others: Mutex::default(), server: Mutex::default() }
    }

    /// Another place for a vault.
    pub fn add(&self, location: &str, store: Arc<dyn ObjectStore>) {
        self.others.lock().unwrap().insert(location.to_owned(), store);
        self.open.lock().unwrap().remove(location);
    }

    /// Where [`databases::HOST`] is.
    pub fn server_is(&self, sockets: &Path) {
        *self.server.lock().unwrap() = Some(sockets.to_owned());
    }

    fn keep(&self, location: &str, vault: Vault) -> Arc<Vault> {
        let vault = Arc::new(vault);
        self.open.lock().unwrap().insert(location.to_owned(), vault.clone());
        vault
    }

    fn store(&self, location: &str) -> Arc<dyn ObjectStore> {
        self.others.lock().unwrap().get(location).unwrap_or(&self.store).clone()
    }
}

impl Vaults for OneVault {
    fn open(&self, location: &str) -> Result<Arc<Vault>, Failure> {
        if let Some(vault) = self.open.lock().unwrap().get(location).cloned() {
            return Ok(vault);
        }
        let vault = Vault::open(self.store(location), &SecretString::from(PASSWORD), &self.io);
        vault.map(|vault| self.keep(location, vault)).map_err(|error| vault_failure(&error))
    }

    fn exists(&self, location: &str) -> Result<bool, Failure> {
        match self.store(location).size("config") {
            Ok(_) => Ok(true),
            Err(error) if error.kind == lifeboat_io::ObjectErrorKind::Missing => Ok(false),
            Err(error) => Err(Failure::from_error(lifeboat_model::FailureKind::Outside, &error)),
        }
    }

    fn create(&self, location: &str) -> Result<Arc<Vault>, Failure> {
        if self.exists(location)? {
            return self.open(location);
        }
        let vault = Vault::create(self.store(location), &SecretString::from(PASSWORD), &self.io);
        vault.map(|vault| self.keep(location, vault)).map_err(|error| vault_failure(&error))
    }

    fn database(&self, url: &str) -> Result<lifeboat_io::database::postgres::Address, Failure> {
        let sockets = self.server.lock().unwrap().clone().unwrap_or_default().display().to_string();
        lifeboat_io::database::postgres::Address::parse(&url.replace(databases::HOST, &sockets), &*self.io.env)
            .map_err(|error| Failure::from_error(lifeboat_model::FailureKind::Usage, &error))
    }

    fn create_like(&self, location: &str, like: &Vault) -> Result<Arc<Vault>, Failure> {
        if self.exists(location)? {
            return self.open(location);
        }
        let vault = like.create_like(self.store(location), &SecretString::from(PASSWORD), &self.io);
        vault.map(|vault| self.keep(location, vault)).map_err(|error| vault_failure(&error))
    }

    fn objects(&self, location: &str) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.store(location))
    }

    fn folder(&self, location: &str) -> Option<PathBuf> {
        let is_other = self.others.lock().unwrap().contains_key(location);
        Some(if is_other { self.folder.with_file_name(location.replace(' ', "-")) } else { self.folder.clone() })
    }

    fn password_place(&self, _location: &str) -> String {
        "in the test's source".to_owned()
    }

    fn webhook(&self, channel: &str) -> Result<SecretString, Failure> {
        Err(Failure::new(lifeboat_model::FailureKind::Usage, format!("{channel} has no webhook here")))
    }

    fn scrub(&self, text: &str) -> String {
        text.replace(PASSWORD, "•••")
    }
}
