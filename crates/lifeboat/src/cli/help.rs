//! What stands below each command's options: examples one can type.

pub const TOP: &str = "\
In an emergency:
  lifeboat status                  where everything stands
  lifeboat restore db --dry-run    what a restore would do, and which rows would leave
  lifeboat restore db              do it; what is there now is kept
  lifeboat undo                    take it back
  lifeboat resume                  go on after an interruption

Exit codes: 0 done and verified, 1 failed and put back, 2 usage, 3 refused, 4 stale plan, 5 busy, 6 unknown,
7 needs a person, 8 in between (lifeboat resume), 9 over budget, 10 action advised, 11 damaged, 130 interrupted.";

pub const STATUS: &str = "\
Examples:
  lifeboat status
  lifeboat status --exit-code      for a monitor: 0 only when every backup is young enough and proven
  lifeboat status --json";

pub const RESTORE: &str = "\
Before it swaps anything, it takes an emergency backup of what is there, restores beside it and compares every table with
the manifest. The old file is kept, and `lifeboat undo` swaps it back.

The plan says what would be lost, as far as the manifest tells. Just before the swap it is counted row by row; when that is
more than was shown, nothing is swapped until somebody agrees with --accept-loss.

PostgreSQL: when it fails and is put back, the next way is gone by itself, as long as no more is lost than was agreed to: the same
backup by an exchange of schemas; when the backup is no good, the newest proven one before it; at last a fresh database beside
the live one, which stays as it is (exit code 1 then). Each try is an operation of its own. --one-way stops after the first.

In production (rehearse_first in the settings) only a backup that has passed a proof is taken; --urgent --reason goes on without.

Examples:
  lifeboat restore db --env staging --from production
  lifeboat restore db --dry-run
  lifeboat restore db
  lifeboat restore db --before 14:05
  lifeboat restore db --before '2h ago' --yes --confirm shop/production
  lifeboat restore db --confirm shop/production --accept-loss 12
  lifeboat restore db --from b-7q2 --into ./shop-yesterday.db
  lifeboat restore ledger --table public.orders --where 'customer = 7'
  lifeboat restore ledger --table public.orders --where 'customer = 7' --apply --yes
  lifeboat restore sqlite:./shop.db --vault ./vault";

pub const PREFLIGHT: &str = "\
Says of each thing that a restore needs whether it is there: ok, unknown or failed. `preflight rollback` is the same. The exit
code is 0 only when all is ok, 6 when something is unknown, 3 when something is missing. Nothing is changed.

Examples:
  lifeboat preflight restore
  lifeboat preflight restore db";

pub const UNDO: &str = "\
What is live now is kept in turn, so an undo can be undone as well.

Examples:
  lifeboat undo
  lifeboat undo o-5k1 --dry-run
  lifeboat undo --yes";

pub const RESUME: &str = "\
It asks the world first whether the step that was running had finished, and goes on from there.

Examples:
  lifeboat resume
  lifeboat resume o-5k1";

pub const ABORT: &str = "\
Past the point of no return there is only forward: resume, then undo.

Examples:
  lifeboat abort
  lifeboat abort o-5k1";

pub const WATCH: &str = "\
Examples:
  lifeboat watch
  lifeboat watch o-5k1 --json=lines";

pub const BACKUP: &str = "\
Success is reported only after the copy has been checked and the stored backup has been read back.

Examples:
  lifeboat backup
  lifeboat backup db --label 'before the big import'
  lifeboat backup --reason pre-deploy --json
  lifeboat backup sqlite:./shop.db --vault ./vault
  lifeboat backup db --copy-to backups/database-pre-change-YYYYMMDD-HHMMSS.sqlite --alias";

pub const EXPORT: &str = "\
What comes out is compared with the manifest, as in a restore. The folder is for your eyes only (mode 0700), and so should
it stay: it holds whatever personal data and secrets the app holds. docs/exports.md says how CSV fields are written.

Examples:
  lifeboat export db --to ./export
  lifeboat export db --to ./export --format csv --table orders --table customers
  lifeboat export db --to ./export --before '2h ago'
  lifeboat export db --to backup/database-20261126.sql.gz --format sql
  lifeboat export db --to ./rows.sql --format sql --data-only
  lifeboat export db --to ./shop.dump --format custom
  lifeboat export --all --to ./export --from b-7q2";

pub const SHIMS: &str = "\
Examples:
  lifeboat shims install
  lifeboat shims workflow --env production
  lifeboat shims install db --dir ./app";

pub const MAINTENANCE: &str = "\
Examples:
  lifeboat maintenance on --reason upgrade --eta 30m
  lifeboat maintenance status
  lifeboat maintenance off";

pub const SCHEDULE: &str = "\
Examples:
  lifeboat schedule list
  lifeboat schedule show
  lifeboat schedule show --format systemd";

pub const DOCS: &str = "\
Examples:
  lifeboat docs card > card.md
  lifeboat docs export";

pub const BACKUPS: &str = "\
Examples:
  lifeboat backups list
  lifeboat backups show b-7q2
  lifeboat backups verify b-7q2
  lifeboat backups diff b-7q2 b-9xk
  lifeboat backups adopt ./database.sqlite.backup.20251104 --for db
  lifeboat backups adopt ./cloud_backup_20251104_143000.sql.gz --resource db
  lifeboat backups adopt ./old.db --for db --at '2025-11-04 02:00' --label 'before Lifeboat'
  lifeboat backups hold b-7q2 --why 'evidence for incident 12'
  lifeboat backups suspect b-9xk --why 'taken after the bad deploy'";

pub const PROVE: &str = "\
A backup is good when it has been restored somewhere and looked at. The proof is recorded with its durations, from which
`status` predicts how long a restore will take; how good such predictions were is said with it. Nothing of the app is
touched.

Examples:
  lifeboat prove
  lifeboat prove b-7q2
  lifeboat prove b-7q2 --resource db";

pub const PLAN: &str = "\
Examples:
  lifeboat plan restore db --before 14:05
  lifeboat plan backup
  lifeboat plan rollback --reason 'error rate'
  lifeboat plan undo
  lifeboat plan retention --json";

pub const APPLY: &str = "\
A plan that rolls back has whoever works there make way, and a deploy that is not over taken back first, as `lifeboat rollback` does.

Examples:
  lifeboat apply p-3fz
  lifeboat apply ./plan.json --yes
  lifeboat apply p-3fz --confirm shop/production";

pub const RELEASE: &str = "\
Examples:
  lifeboat release o-5k1 --dry-run
  lifeboat release o-5k1";

pub const FENCE: &str = "\
A fence is a trigger on every table that refuses writes for every role, and reading as the default of new sessions. It is in the database
itself: it stays when this program dies, and anybody who may can lift it.

Examples:
  lifeboat fence on db --reason 'rolling back the release of this morning'
  lifeboat fence status db
  lifeboat fence off db";

pub const POLICY: &str = "\
A policy is replaced in one transaction: when anything fails, the former one holds, and row-level security is on at the end. `open` does not
switch it off: a policy lets everybody through until the server's clock says that it is over, whatever becomes of this program. `test` takes
a role on, with claims of a token, and counts what it sees; it changes nothing. `lifeboat undo` puts the former policy back.

Examples:
  lifeboat policy list customers
  lifeboat policy replace customers 'Users can view shop customers' --using 'shop_id = auth.current_shop_id() OR auth.is_owner_or_admin()'
  lifeboat policy test customers --as authenticated --claim shop_id=1 --own 'shop_id = 1'
  lifeboat policy open customers --to authenticated --time 10m --reason 'is it the policy?'
  lifeboat policy close customers";

pub const SALVAGE: &str = "\
A restore of a PostgreSQL database finds the rows that leave with it, while writes are held, and keeps them with its operation:
CSV for people, and a form that `apply` reads. `apply` inserts what came since the backup, parents before children, in one
transaction, with triggers off where it may. A row whose key or unique value is taken, or whose parent is missing, is listed
and left out. Rows that were changed or deleted are left as they are, unless --overwrite and --deletes say otherwise: then those
become as they were live where what came back is still as in the backup; what was touched since is a conflict, and listed. A second `apply` inserts nothing;
`lifeboat undo` takes away what was inserted and nobody has changed since.

Examples:
  lifeboat salvage list
  lifeboat salvage show o-0123456789abcdef --table orders
  lifeboat salvage export o-0123456789abcdef --to ./lost-rows
  lifeboat salvage apply o-0123456789abcdef --dry-run
  lifeboat salvage apply o-0123456789abcdef --table orders --yes
  lifeboat salvage apply o-0123456789abcdef --overwrite --deletes --dry-run";

pub const SYNC: &str = "\
The file is always right; the cloud follows. Triggers note the keys of changed rows in the file itself, in the same transaction, and
whoever runs `lifeboat sync run` delivers them. While the cloud is away, or the mirror is switched off, changes wait and none is lost.
Rows that the cloud refuses are set aside, so that the others need not wait: `sync queue list` shows them, `sync queue retry` tries
again. `SYNC_ENABLED=false` and `ENABLE_SUPABASE=false`, in the environment or the app's .env, win over every switch.

Examples:
  lifeboat sync attach --dry-run
  lifeboat sync attach --yes
  lifeboat sync run
  lifeboat sync status
  lifeboat sync disable --reason 'sync errors in the logs'
  lifeboat sync queue list
  lifeboat sync queue clear --reason 'corrupted entries' --yes
  lifeboat sync check
  lifeboat sync resync --yes
  lifeboat sync merge cloud-rows-20261120-140500.ndjson --dry-run
  lifeboat sync enable";

pub const SERVE: &str = "\
It delivers for every link of the environment, and answers on this host: /api/health, /api/sync/status, /api/sync/queue, POST
/api/sync/enable, disable, trigger and queue/clear, and /metrics for Prometheus. Ended with Ctrl-C or SIGTERM, it stops between two
batches.

Examples:
  lifeboat serve
  lifeboat serve --listen 127.0.0.1:4002
  curl -X POST http://localhost:3002/api/sync/disable
  curl -s http://localhost:3002/api/sync/status | jq .data.queue.queueSize";

pub const TOKEN: &str = "\
A viewer may look, an operator switch and trigger, an admin do everything. A token is shown once; its hash is kept.

Examples:
  lifeboat token add ops --role admin
  lifeboat token list
  lifeboat token revoke ops";

pub const ADVISE: &str = "\
Without words it looks at the mirror, at the cloud's HTTP side (SUPABASE_URL) and at the app (url and probes of its target): more than 100
waiting changes are worth a look, more than 1,000 are level 2, more than 10,000 are urgent; more than 10 rows set aside or a delivery
older than 5 minutes are level 1; a probe that fails is level 3; a file that cannot be read is level 5. Exit code 0 when nothing asks
for anything, else 10.

Examples:
  lifeboat advise
  lifeboat advise queue growing
  lifeboat advise --list";

pub const APP: &str = "\
A workaround for a Node app that runs out of memory: its start command gets NODE_OPTIONS once, no file changes, and lifeboat status reminds
of it until lifeboat undo, or whatever else starts the app through Lifeboat, has started it as before.

Examples:
  lifeboat app start --node-memory 4096 --reason 'queue too large' --yes
  lifeboat undo";

pub const ESCALATION: &str = "\
Tier 1 helps itself for 15 minutes, then the internal team has until one hour is over, then the vendor until four are; what cannot wait is
tier 4 from the first minute, and should stand within 30. The times run from the open incident that began first. Who they are stands in
[escalation] of lifeboat.toml. Where roles are named there, backups are called after 5 minutes without an answer of theirs, everybody
after 10, and the executive when the incident is not over after 30: `lifeboat serve` tells the channels, whenever it was started anew.

Examples:
  lifeboat incident open 'sync is down'
  lifeboat escalation
  lifeboat escalation ack --role database-administrator --note 'looking at locks'";

pub const LEVEL: &str = "\
Level 1 (60 s) holds changes; local work goes on and nothing is lost. Level 2 (2 min) saves what waits and clears the queue; at most
1,000 waiting changes are no reason, so one has to be given. Level 3 (5 min) brings the application back: by a variable (--local-only),
by a commit with the content of an older one (--to), or by the stable version (--stable); if it does not work then, all is put back.
Level 4 (30 min) holds changes, saves and clears the queue, looks whether the file is sound, makes the cloud equal, compares, and only
then delivers again. Level 5 (2 h) restores the newest proven backup and the stable version, tries them, saves what only the cloud has,
makes the cloud equal and delivers again; the mirror is off from its beginning.

Examples:
  lifeboat level 1 --reason 'sync errors in the logs'
  lifeboat level 2 --reason 'corrupted entries' --yes
  lifeboat level 3 --local-only --yes
  lifeboat level 3 --to HEAD~1 --dry-run
  lifeboat level 4 --yes
  lifeboat level 5 --dry-run";

pub const MONITOR: &str = "\
Says ALERT lines: more than 100 changes wait, more than 10 rows are set aside, the last delivery is older than 5 minutes, deletes are
held, the cloud's HTTP side is away (SUPABASE_URL), nobody answers where the daemon should. Exit code 0 when there is none, else 10.

Examples:
  lifeboat monitor sync
  */5 * * * * cd /srv/shop && lifeboat monitor sync || mail -s 'shop: sync' ops@example.org";

pub const READY: &str = "\
Ten points: backups by themselves, alerts, procedures tested, people trained, somebody on call, contacts, a rollback and a re-sync tested,
billing alerts, the plan reviewed. What can be measured is measured; tests that were done here within a quarter count by themselves; for
the rest somebody gives their word, which counts for a quarter. Exit code 0 only when all stand, 6 when one cannot be known, else 10.

Examples:
  lifeboat ready --env production
  lifeboat ready attest training --note 'Ada, Ben: 12 March'";

pub const RETENTION: &str = "\
Examples:
  lifeboat retention plan
  lifeboat retention apply --dry-run
  lifeboat retention apply --yes";

pub const VAULT: &str = "\
Examples:
  lifeboat vault check
  lifeboat vault check --read-data=1/7
  lifeboat vault prune --dry-run
  lifeboat vault recover
  lifeboat vault kit ./recovery-kit";

pub const OBJECTIVES: &str = "\
Each row is a promise: how old the newest good backup may be (rpo in [objectives]), how long a restore may take (rto), a
rollback of each kind, an emergency level, how soon something is done about an incident (response). Beside it stands what
was measured: the newest run, the middle one, the longest one; restores and rollbacks that were only rehearsed count too.
Where an incident was open, the time from its beginning is
told as well. Ends with exit code 10 when a promise is broken, or a newest backup about to be too old.

Examples:
  lifeboat objectives
  lifeboat objectives --json | jq '.objectives[] | select(.outcome != \"pass\")'";

pub const HISTORY: &str = "\
Examples:
  lifeboat history
  lifeboat history --limit 100 --json";

pub const JOURNAL: &str = "\
Examples:
  lifeboat journal show
  lifeboat journal verify
  lifeboat journal export o-5k1 > o-5k1.ndjson";

pub const INIT: &str = "\
Examples:
  lifeboat init
  lifeboat init sqlite:./shop.db env:./.env --app shop";

pub const DOCTOR: &str = "\
Examples:
  lifeboat doctor
  lifeboat doctor --json";

pub const CONFIG: &str = "\
Examples:
  lifeboat config check
  lifeboat config show -e production
  lifeboat config schema > lifeboat.schema.json";

pub const COMPLETIONS: &str = "\
Examples:
  lifeboat completions bash > ~/.local/share/bash-completion/completions/lifeboat
  lifeboat completions zsh > ~/.zfunc/_lifeboat
  lifeboat completions fish > ~/.config/fish/completions/lifeboat.fish";

pub const MAN: &str = "\
Examples:
  lifeboat man | man -l -
  lifeboat man ~/.local/share/man/man1";

pub const DEMO: &str = "\
Nothing is needed for it and nothing of yours is touched.

Examples:
  lifeboat demo
  lifeboat demo ./lifeboat-demo";

pub const VERIFY: &str = "\
A database is looked at through a consistent copy, so that the app is not held up. The questions are those of the settings
(`checks`), the tables those of `critical_tables`. Exit code 0 when all is good, 6 when something could not be looked at, 11
when something is not good.

Examples:
  lifeboat verify
  lifeboat verify db --checks validate.toml
  lifeboat verify db --json
  lifeboat verify sqlite:./shop.db";

pub const EVIDENCE: &str = "\
The digest of the list goes on record in the journal. The backups that the operation read or made are held: no rule of retention
takes them until somebody says `lifeboat backups unhold`.

Examples:
  lifeboat evidence collect o-5k1 --attach /var/log/shop.log --attach screenshot.png
  lifeboat evidence verify ./state/evidence/o-5k1m2n3p4q-20261120-140500";

pub const FEATURE: &str = "\
A feature is switched by a command or by a variable ([features.NAME] of lifeboat.toml), and what it was switched to is looked at where a
probe says how: off answers with 404 or 503, on does not. While it is off `lifeboat status` names it. What was switched off while an
incident was open goes on again when that is closed; `undo` switches it back before.

Examples:
  lifeboat feature list
  lifeboat feature off imports --reason 'writes wrong prices'
  lifeboat feature on imports";

pub const INCIDENT: &str = "\
While an incident is open no backup goes, whatever the rules of retention say. When it is closed, what was made since it began -
emergency backups, files and databases that a restore set aside - stays until its review is on record. Backups from between its
beginning and its end are suspect: they are never chosen by themselves.

Examples:
  lifeboat incident open 'import wrote wrong prices' --since 14:05
  lifeboat incident close --note 'restored the backup of 14:00'
  lifeboat incident review --note 'import validates prices now'";

pub const DECIDE: &str = "\
The matrix has fifteen rows; `decide.rules` in the settings changes limits and adds rows. The worst row that holds counts. What nobody
knows is never taken for fine: without it the answer may be UNDECIDED, with what has to be found out. Facts come from where
`decide.facts` in the settings says, and from --fact; what was said of the same matter within half an hour still holds.
A rate needs its samples and its time: error_rate=61/1200,window=5m. A quick fix of a major matter has 15 minutes, and never more than
30 minutes from the detection: ask again then.

Exit codes: 0 no rollback, 10 roll back or try the fix, 6 undecided. With --execute those of the rollback: only what the rules call
critical, where `decide.execute` in the settings is true, by the application alone, and once for each release. A deploy that is not over makes way,
and is taken back as it would take itself back.

Examples:
  lifeboat decide --fact system_unavailable=6m
  lifeboat decide --fact error_rate=61/1200,window=5m --rest-is-fine --quick-fix 10m --role 'technical lead'
  lifeboat decide --override stay --reason 'the provider is down, not the release'
  lifeboat decide --replay o-6aqfrnvb8x";

pub const ASSESS: &str = "\
To be filled in within five minutes. What is not said stays open, and the exit code is 10 then. `lifeboat decide` takes the quick fix
from here.

Examples:
  lifeboat assess --severity major --users 12 --systems Auth,Tickets --data-at-risk no --quick-fix 10m";

pub const PROVIDER: &str = "\
For the day on which there is no good backup: `routes` says what else there is - the platform's own backups, a restore by the provider
to a point in time, copies and dumps elsewhere, what the app's audit log tells - and looks each up. `ask` writes the request for a
restore to a point in time; it is open, here and in `lifeboat status`, until `outcome` says how it ended.

Examples:
  lifeboat provider routes db
  lifeboat provider ask db --to '2026-11-20 14:05' --reason 'a migration emptied orders' --file request.txt
  lifeboat provider ticket 48151623
  lifeboat provider outcome --restored --note 'new instance, complete up to 14:04:58'";

pub const CHECKLIST: &str = "\
Seventeen lists, 99 points. Each belongs to a rollback, a rehearsal, an incident - the newest, when none is named - or to the app, where a word counts for a
quarter of a year. What the journal or the world shows is ticked by itself, or by a command of your own ([checks] in the settings); the rest a person
attests, and is named. What nobody knows has not passed. Exit codes: 0 every point stands, 6 something is not known, 10 something does not stand.

Examples:
  lifeboat checklist list
  lifeboat checklist show pre-rollback
  lifeboat checklist show smoke --markdown
  lifeboat checklist attest smoke create --note 'made ticket 4711 and closed it'";

pub const MESSAGES: &str = "\
`lifeboat rollback` tells every channel under [notify] that it begins, and that it is over or has failed; an open incident reminds after 5, 15
and 30 minutes of what is not on record yet. A message is written down before it is
sent; a channel that is down holds nothing up, and is tried again here. Exit code 10 while one is not delivered.

Examples:
  lifeboat messages list
  lifeboat messages retry
  lifeboat messages test chat";

pub const ENV: &str = "\
A fingerprint stands for a value: it tells whether two are the same, and nobody can guess a value by it without the vault.
`diff` ends with exit code 10 when something differs. `restore` sets single variables, or all that differ, each in its place: comments and
order stay, variables that came since are taken out unless --keep-new says otherwise, and `undo` takes it back. Values that were said to be
compromised never come back. The file as a whole comes back with `lifeboat restore`. Where it is the env_file of a target at Fly, Vercel or Supabase,
the platform gets what has changed as well, in one batch and by standard input: one release, and no value in any argument.

Examples:
  lifeboat env diff
  lifeboat env restore FEATURE_X --yes
  lifeboat env restore --from b-7q2f --dry-run
  lifeboat env diff env --before '2026-11-20 14:05'
  lifeboat env history";

pub const LOGS: &str = "\
A line without a time has that of the line before it. Times without a zone are in the time zone of the settings.

Examples:
  lifeboat logs scan /var/log/shop.log --since '1h ago'
  lifeboat logs audit db --since 14:05 --until 15:00";

pub const CHECKPOINT: &str = "\
Takes a backup of everything, proves it by restoring it, looks whether the app works, and puts on record what runs: the version of each
target, which migrations were applied, the DOWN scripts that lead back, names and fingerprints of variables. A release whose probes
answered counts as good. Take one before every deploy.

Examples:
  lifeboat checkpoint --label v1.4
  lifeboat checkpoint --shadow        a rollback by the backup then needs no restore
  lifeboat checkpoint --unproven      when there is no time for the proof now";

pub const SHADOW: &str = "\
A shadow is a database on the same server, filled from a backup beforehand and compared with it: as large as the live one. A restore or
a rollback to that backup compares it once more and gives it the name, instead of fetching the backup; the app is closed only
while what is there now is kept. One that was changed, is in use or is gone is passed over: then the backup is fetched. There is at
most one of each database; `checkpoint --shadow` and `deploy --shadow` make it anew.

Examples:
  lifeboat shadow make db
  lifeboat shadow make db --from b-7q2
  lifeboat shadow drop db";

pub const DEPLOY: &str = "\
A checkpoint first: a backup of everything, proven, and what runs is sealed. Then the migrations that come with the version are rehearsed
on a copy of that backup - up, down, up -, the version is brought, writes are refused, the app is stopped, the migrations are applied in
one transaction with their rows in the ledger, and the new version is started. It has to answer, as a new instance and with its version;
its probes and its `smoke` command are tried, and it is watched. What does not do is taken back by itself, DOWN scripts included; rows
and values that leave with them are kept. It is bad then, and no deploy puts it back.

Migrations that lose something on their way back are refused, unless `--accept` says otherwise: then nothing goes back by itself.

Exit codes: 0 good or live, 1 taken back, 8 it does not do and is held, 10 and 130 as always.

Examples:
  lifeboat deploy v1.5 --dry-run
  lifeboat deploy v1.5 --yes
  lifeboat deploy v1.5 --accept lossy --confirm shop/production";

pub const REDEPLOY: &str = "\
After a platform has lost what it ran, or when nobody knows any more what is there. Nothing becomes another version: each target gets what it
runs once more - what a release says to be live, where nothing runs -; one that Vercel builds is built for production out of a fresh copy of
the newest commit at the remote. Targets come in the order of their names, then every edge function, one by one; each has to answer anew. Data and
variables are not touched.

One that fails takes nothing back: the operation waits, says what is deployed and what is not, and `lifeboat resume` goes on with that one.

Examples:
  lifeboat redeploy --dry-run
  lifeboat redeploy --reason 'the project was deleted' --yes
  lifeboat redeploy web functions --yes";

pub const ROLLBACK: &str = "\
Without a name it goes back to the newest good release that runs something else than what runs - or to the newest good one itself, when it
runs and a database is not what it knows. The shortest way that works is taken:
app-only (no database is touched), app-and-down (DOWN scripts, newest first, in one transaction), full (the database from that release's
backup). The plan shows every way, and why one does not work. Writes are refused before the app is stopped; the former version starts only
when the database is what it knows. Up to the point of no return, a failure puts everything back.

A deploy or a backup that runs is asked to stop at its next safe point; after --wait its step is broken off, and after twice that time the rollback
gives up and names the process. A deploy that is not over is taken back first; what runs then is the former version, so without a name that is all.

--revert is for a front end that somebody else builds from a branch: the commit that did the harm is taken back there, whatever came after it,
pushed without force, and its build is waited for. What is checked out here is not touched. --workflow asks GitHub, by its program gh, to run the
workflow that `lifeboat shims workflow` writes, for whoever cannot reach the host; it wants a reason.

Examples:
  lifeboat rollback --dry-run
  lifeboat rollback --reason 'error rate' --yes
  lifeboat rollback v1.4 --profile full --confirm shop/production
  lifeboat rollback --revert 3f2a9c1 --reason 'blank page' --yes
  lifeboat rollback --workflow --reason 'Emergency rollback - production down' --yes
  lifeboat rollback --manual --to 3 --yes
  lifeboat rollback --manual --from 4 --to 5 --yes";

pub const REHEARSE: &str = "\
A rehearsal is the rollback itself, its plan and its journal, in an environment where nothing is lost by it: production is refused. Passed
has one that came to its end, without a step that failed or was begun twice, within 15 minutes; what only people can say is attested. What
it leaves is not bad. `lifeboat ready` wants one that passed within a quarter. Exit code 10 when one did not pass, or is due.

`sync` tries what a hybrid app wants tried each quarter: switch (hold changes, see that they are noted, deliver them), queue (save and clear
it, put it back), rollback (the version before this one, and this one again), restore (a backup, beside the database as NAME-test, with writes).
Each ends as it began.

Examples:
  lifeboat rehearse rollback --env staging --dry-run
  lifeboat rehearse rollback --env staging --profile full --confirm shop/staging
  lifeboat rehearse sync switch --env staging
  lifeboat rehearse list
  lifeboat rehearse attest o-1a2b3c4d5e roles --note 'Ada, Ben'";

pub const SHEET: &str = "\
The very plan of `lifeboat rollback`, as commands with this app's values, that need psql, restic, curl and the platform's own program, and no
Lifeboat. Print it after each checkpoint: what it names is what is there at that moment. No secret is in it; where they are is.

Examples:
  lifeboat sheet rollback
  lifeboat sheet rollback v1.4 --profile full --to rollback.html";

pub const RELEASES: &str = "\
A bad release is held: no rollback chooses it by itself.

Examples:
  lifeboat releases list
  lifeboat releases show v1.4
  lifeboat releases baseline
  lifeboat releases mark v1.5 bad --reason 'orders are lost'";

pub const MIGRATE: &str = "\
Finds the ledger of Supabase, dbmate, Rails, sqlx, Sequelize, Knex, Prisma. `rehearse` tries what is about to be applied on a copy of a
backup, up, down and up again, and tells how far it can be taken back: down-lossless, lossy, one-way (exit code 10 for these two). `revert` stops writes, takes an emergency backup, and runs the
DOWN scripts newest first, in one transaction with the rows of the ledger: all of them or none.

Examples:
  lifeboat migrate status
  lifeboat migrate rehearse
  lifeboat migrate revert --to 20251024093000 --dry-run
  lifeboat migrate revert --release v1.4 --confirm shop/production";
