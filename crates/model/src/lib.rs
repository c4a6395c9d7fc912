//! The nouns of lifeboat and the decisions that need nothing but them. No file, no clock, no randomness, no async.
//!
//! In reading order: what is protected ([`resource`]), what a backup holds ([`manifest`], [`backup`]), how we know that
//! it is good ([`check`], [`proof`]), what is asked for ([`request`]), what will happen ([`plan`]),
//! what is lost by it ([`loss`]) and kept of that ([`salvage`]), what happened
//! ([`operation`]), whether a release is rolled back ([`decision`]), how long it may be kept ([`keep`]) and what a person reads when it goes wrong ([`failure`]).

pub mod advice;
pub mod assertion;
pub mod backup;
pub mod baseline;
pub mod check;
pub mod checklist;
pub mod compare;
pub mod decision;
pub mod drill;
pub mod due;
pub mod elsewhere;
pub mod escalation;
pub mod export;
pub mod failure;
pub mod feature;
pub mod id;
pub mod incident;
pub mod keep;
pub mod loss;
pub mod manifest;
pub mod message;
pub mod migration;
pub mod operation;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod postgres;
pub mod predict;
pub mod proof;
pub mod provider;
pub mod release;
pub mod request;
pub mod resource;
pub mod salvage;
pub mod schedule;
pub mod stamp;
pub mod sync;
pub mod target;
pub mod time;
pub mod variables;

pub use backup::{Backup, BackupChoice, BackupReason, NoBackup, choose_backup};
pub use baseline::Baseline;
pub use check::{Check, Tri};
pub use drill::Drill;
pub use due::Deadline;
pub use elsewhere::{BadElsewhere, Elsewhere};
pub use export::{Export, ExportFormat, ExportedFile, ExportedResource};
pub use failure::{ExitCode, Failure, FailureClass, FailureKind};
pub use feature::{Feature, FeatureSeen, FeatureState, Switch};
pub use id::{BackupId, OperationId, PlanId, ProofId, ReleaseId, StepId};
pub use incident::{Incident, IncidentStep, Said};
pub use keep::{Keep, Verdict, decide_keep};
pub use loss::{AcceptLoss, Loss, LossLine};
pub use manifest::{
    Content, Deploy, EnvFacts, FilesFacts, Manifest, Migrated, ResourceManifest, SqliteFacts, TableFacts,
};
pub use migration::{Ledger, Migration, Migrations, Pending, Reversibility, SchemaState, Script};
pub use operation::{Entry, Event, Found, Operation, OperationState, Outcome, StepState};
pub use plan::{
    Action, ExpectedFact, ExportPart, Fact, Foreign, KeptFor, Lease, OnFailure, Part, PgAction, Phase, Plan,
    SchemaNames, SchemaReturn, Step, StepClass, StoredPart, Undo,
};
pub use platform::{BranchAction, PlatformAsk, RedeployAction, WorkflowAction};
pub use postgres::PostgresFacts;
pub use predict::{Prediction, Sample, predict};
pub use proof::{Proof, ProofLevel, level_reached};
pub use provider::{ProviderOutcome, ProviderRestore, ProviderStep};
pub use release::{
    Artifact, DeployAsk, KnownRelease, Profile, Release, ReleaseRecord, ReleaseState, RevertTo, VersionAsk,
};
pub use request::{BackupMark, Request};
pub use resource::{Category, Resource, ResourceKind, ResourceName, Scope, SqlCheck, SwapStrategy, VaultName, Writer};
pub use salvage::{RowKind, Salvage, SalvagedTable};
pub use stamp::{NameStamp, stamp_in};
pub use target::{Brings, Driver, EnvBinding, Instance, LevelAsk, Target, TargetAction, Tells, Trial, is_new};
pub use time::{Duration, Timestamp};
pub use variables::{EnvAction, EnvAsk};
