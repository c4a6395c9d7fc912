//! A shop whose SQLite file is mirrored to a real server. Another program writes to it: the system's `sqlite3`.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use lifeboat_engine::{Mirror, Unwatched};
use lifeboat_io::Stop;
use lifeboat_model::{
    Operation, Request, ResourceName,
    sync::{Link, Said, SyncAsk},
};
use lifeboat_testkit::{World, databases, world::make_shop};

/// The shop.
pub struct Shop {
    pub world: World,
}

impl Shop {
    /// Its file is mirrored; what it holds is in the cloud.
    pub fn attached() -> Shop {
        let shop = Shop::alone();
        shop.ask(SyncAsk::Attach);
        shop
    }

    /// Its file is not mirrored yet.
    pub fn alone() -> Shop {
        let mut world = World::on_server(15);
        let file = world.app("shop.db");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        make_shop(&file, 40);
        world.setup.links = vec![Link {
            name: ResourceName::new("cloud").unwrap(),
            file,
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
        world.psql("postgres", "ALTER SYSTEM SET log_connections = on; SELECT pg_reload_conf()");
        let shop = Shop { world };
        shop.write("CREATE TABLE pairs (name TEXT, n INTEGER, v, PRIMARY KEY (name, n)) WITHOUT ROWID;");
        shop
    }

    pub fn link(&mut self, change: impl FnOnce(&mut Link)) {
        change(&mut self.world.setup.links[0]);
    }

    pub fn file(&self) -> PathBuf {
        self.world.app("shop.db")
    }

    pub fn request(&self, about: SyncAsk) -> Request {
        Request::Sync { link: ResourceName::new("cloud").unwrap(), about }
    }

    pub fn ask(&self, about: SyncAsk) -> Operation {
        self.world.must(&self.request(about))
    }

    pub fn mirror(&self) -> Mirror {
        self.world.engine().mirror(None).unwrap()
    }

    /// The same file, by a Lifeboat that remembers what this one did at that moment, and is another.
    pub fn mirror_of_another_host(&self) -> Mirror {
        let (world, vaults) = (&self.world, self.world.vaults.clone() as std::sync::Arc<dyn lifeboat_engine::Vaults>);
        let state = lifeboat_store::StateFolder::open(&world.path("another state")).unwrap();
        let known = |state: &lifeboat_store::StateFolder| state.mirror(&world.setup.scope, &world.setup.links[0].name);
        std::fs::copy(known(&world.state()), known(&state)).unwrap();
        Mirror::open(&world.setup.links[0], &world.setup.scope, &world.io, &state, &vaults).unwrap()
    }

    /// Runs statements in the file, by a program that knows nothing of us.
    pub fn write(&self, statements: &str) {
        assert!(self.sqlite3(statements).0, "{statements}");
    }

    /// What a question to the file is answered.
    pub fn read(&self, question: &str) -> String {
        self.sqlite3(question).1.trim().to_owned()
    }

    fn sqlite3(&self, statements: &str) -> (bool, String) {
        let mut child = Command::new("sqlite3")
            .args(["-bail", "-cmd", ".timeout 10000"])
            .arg(self.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a question to the cloud is answered.
    pub fn cloud(&self, question: &str) -> String {
        self.world.psql("shop", question).trim().to_owned()
    }

    /// How many sessions of ours the server has ever had in this database.
    pub fn connections(&self) -> usize {
        let seen = self.world.server().log().matches("application_name=lifeboat").count();
        assert!(seen > 0, "attaching has connected");
        seen
    }

    /// Both sides hold the same, row by row.
    pub fn is_equal(&self, mirror: &mut Mirror) {
        let compared = mirror.compare(&[], &Unwatched, &Stop::default()).unwrap();
        assert!(compared.is_equal(), "{compared:#?}");
        assert!(compared.tables.iter().any(|table| table.rows > 0), "nothing was compared");
    }
}
