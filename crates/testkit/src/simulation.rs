//! A seeded simulation: a shop's life as a list of requests, sales, deaths, failing storage and clock jumps. Afterwards
//! the live database equals a state it was ever meant to have, every listed backup restores, the journals are legal.
//!
//! The same seed gives the same life. A failing seed is printed and can be replayed:
//! `LIFEBOAT_SIMULATION_SEED=7 cargo nextest run -p lifeboat-testkit simulation`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lifeboat_engine::Unwatched;
use lifeboat_io::{
    Random, Stop,
    objects::folder::Folder,
    testing::{Faults, FaultyObjects, SeededRandom},
};
use lifeboat_model::{BackupChoice, FailureKind, Operation, OperationState, Request, ResourceKind};

use crate::{
    trouble::{InTrouble, Trouble, unless_it_dies},
    world::{OneVault, World, backup_of, content, restore_of},
};

/// How a life went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How often each kind of thing happened, faults included.
    pub happened: BTreeMap<String, u64>,
    /// How operations ended.
    pub ended: BTreeMap<String, u64>,
}

/// Lives a life of so many events. Panics, naming the seed, when something is not as it must be.
pub fn live(seed: u64, events: usize) -> Life {
    let mut shop = Shop::open(seed);
    for _ in 0..events {
        shop.event();
    }
    shop.settle();
    shop.judge();
    shop.life
}

struct Shop {
    seed: u64,
    chance: SeededRandom,
    world: World,
    faulty: Arc<FaultyObjects>,
    /// Every content the live database was ever meant to have.
    meant: BTreeSet<String>,
    life: Life,
}

impl Shop {
    fn open(seed: u64) -> Shop {
        let mut world = World::with_seed(seed);
        world.setup.resources.truncate(1);
        world.setup.keep = lifeboat_model::Keep {
            within: Some(Duration::from_secs(3 * 86_400)),
            last: 2,
            daily: 2,
            weekly: 0,
            monthly: 0,
            proven: 1,
            ..Default::default()
        };
        let folder = Arc::new(Folder::new(world.path("vault")));
        let faulty = Arc::new(FaultyObjects::new(folder, world.clock.clone(), seed, Faults::default()));
        world.vaults = Arc::new(OneVault::new(faulty.clone(), world.io.clone(), world.path("vault")));
        let mut shop = Shop {
            seed,
            chance: SeededRandom::new(seed),
            world,
            faulty,
            meant: BTreeSet::new(),
            life: Life::default(),
        };
        shop.mean();
        shop.world.backup();
        shop
    }

    fn live(&self) -> String {
        content(&ResourceKind::Sqlite { path: self.world.app("shop.db") })
    }

    /// What is live now is meant to be.
    fn mean(&mut self) {
        let live = self.live();
        self.meant.insert(live);
    }

    fn count(&mut self, what: &str) {
        *self.life.happened.entry(what.to_owned()).or_default() += 1;
    }

    fn event(&mut self) {
        self.world.clock.advance(Duration::from_secs(600 + self.chance.below(40_000)));
        if self.chance.happens(60) {
            self.count("clock goes back an hour");
            let now = lifeboat_io::Clock::now(&*self.world.clock);
            self.world.clock.jump_to(now - jiff::SignedDuration::from_hours(1));
        }
        if self.chance.happens(400) && self.world.app("shop.db").exists() {
            self.count("sales");
            self.world.sell(1 + self.chance.below(5) as u32);
            self.mean();
        }
        let request = match self.chance.below(20) {
            0..7 => backup_of(&[]),
            7..12 => restore_of("db"),
            12..15 => Request::Prove { backup: BackupChoice::Latest, resources: vec![] },
            15..17 => Request::Retention,
            17 => Request::Prune,
            _ => match self.world.engine().look().last_undoable() {
                Ok(operation) => Request::Undo { operation },
                Err(_nothing) => return,
            },
        };
        self.ask(&request);
    }

    /// Carries a request out, perhaps with a fault in the storage or a death in the middle; then picks up the pieces.
    fn ask(&mut self, request: &Request) {
        self.count(request.word());
        if self.chance.happens(250) {
            self.count("storage fails now and then");
            self.faulty.set(Faults { fail_before: 60, answer_lost: 60, short_list: 40, ..Faults::default() });
        }
        let death = if self.chance.happens(350) { Some(self.chance.below(14) as usize) } else { None };
        let trouble = match (death, self.chance.happens(500)) {
            (None, _) => Trouble::None,
            (Some(step), false) => Trouble::DieBefore(step),
            (Some(step), true) => Trouble::DieAfter(step),
        };
        let engine = self.world.engine_with(|hands| Arc::new(InTrouble::new(hands, trouble)));
        let plan = engine.plan(request);
        let run = match &plan {
            Ok(plan) => unless_it_dies(|| engine.run(plan, "tester", &Unwatched, &Stop::default())),
            Err(failure) => {
                let word = format!("refused: {:?}", failure.kind);
                *self.life.ended.entry(word).or_default() += 1;
                self.faulty.set(Faults::default());
                return;
            }
        };
        drop(engine);
        self.faulty.set(Faults::default());
        match run {
            None => self.count("deaths"),
            Some(Err(error)) => {
                let word = format!("not begun: {:?}", error.failure.kind);
                *self.life.ended.entry(word).or_default() += 1;
            }
            Some(Ok(operation)) => self.note_end(&operation),
        }
        self.settle();
        self.check_now(request);
    }

    fn note_end(&mut self, operation: &Operation) {
        let word = match &operation.state {
            OperationState::Done => "done",
            OperationState::PutBack { .. } => "put back",
            OperationState::HandedOver { .. } => "handed over",
            OperationState::Paused { .. } => "paused",
            OperationState::Running | OperationState::TurningBack { .. } => "left open",
        };
        *self.life.ended.entry(word.to_owned()).or_default() += 1;
    }

    /// Resumes or aborts whatever is unfinished.
    fn settle(&mut self) {
        for _ in 0..5 {
            let engine = self.world.engine();
            let open = engine.catalog().unwrap().unfinished().unwrap();
            let Some(row) = open.first() else { return };
            let resumed = if self.chance.happens(500) {
                self.count("resumed");
                engine.resume(&row.id, "tester", &Unwatched, &Stop::default())
            } else {
                self.count("aborted");
                engine
                    .abort(&row.id, "tester", &Unwatched)
                    .or_else(|_past_the_pivot| engine.resume(&row.id, "tester", &Unwatched, &Stop::default()))
            };
            match resumed {
                Ok(operation) => self.note_end(&operation),
                Err(error) if error.failure.kind == FailureKind::Stale => {
                    let aborted = engine.abort(&row.id, "tester", &Unwatched);
                    aborted.unwrap_or_else(|error| panic!("seed {}: stale, and cannot be aborted: {error}", self.seed));
                }
                Err(error) => panic!("seed {}: {} cannot be settled: {error}", self.seed, row.id),
            }
        }
        panic!("seed {}: an operation cannot be settled in five tries", self.seed);
    }

    fn check_now(&mut self, request: &Request) {
        let live = self.live();
        assert!(self.meant.contains(&live), "seed {}: after {request:?} the live database is {live}", self.seed);
        // A lock whose deletion failed stays until it is stale; whether it goes then is looked at in the end.
        let mut debris = self.world.look().debris;
        debris.retain(|path| !path.starts_with("vault/locks"));
        assert!(debris.is_empty(), "seed {}: after {request:?} there is debris: {debris:?}", self.seed);
    }

    fn judge(&mut self) {
        self.world.clock.advance(Duration::from_secs(7200));
        if self.world.app("shop.db").exists() {
            self.world.backup();
        }
        let debris = self.world.look().debris;
        assert!(debris.is_empty(), "seed {}: in the end there is debris: {debris:?}", self.seed);
        let engine = self.world.engine();
        for backup in engine.backups().unwrap_or_else(|failure| panic!("seed {}: {failure}", self.seed)) {
            let into = self.world.path(&format!("out-{}", backup.id));
            let request = Request::Restore {
                resource: lifeboat_model::ResourceName::new("db").unwrap(),
                from: BackupChoice::Exactly(backup.id.clone()),
                into: Some(into.clone()),
                tablespaces: std::collections::BTreeMap::new(),
                without_emergency_backup: None,
                accept_loss: lifeboat_model::AcceptLoss::Shown,
                urgent: None,
                ack: None,
            };
            let restored = self.world.run(&request).unwrap_or_else(|failure| panic!("seed {}: {failure}", self.seed));
            assert_eq!(restored.state, OperationState::Done, "seed {}: {}", self.seed, backup.id);
            let held = content(&ResourceKind::Sqlite { path: into });
            assert!(self.meant.contains(&held), "seed {}: {} holds what never was: {held}", self.seed, backup.id);
            self.count("backups restored at the end");
        }
        for (fault, count) in self.faulty.fired() {
            self.life.happened.insert(format!("fault {fault:?}"), count);
        }
        assert!(engine.catalog().unwrap().damaged_journals().unwrap().is_empty(), "seed {}", self.seed);
    }
}

/// A seed from chance, for runs that explore.
pub fn any_seed() -> u64 {
    lifeboat_io::SystemRandom.bits() % 1_000_000
}
