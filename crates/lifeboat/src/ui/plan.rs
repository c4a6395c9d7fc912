//! A plan as a table. The same rows, in the same order, are the progress of its operation.

use lifeboat_engine::Rehearsed;
use lifeboat_model::{ExitCode, Loss, LossLine, Plan, StepClass, predict, time::show_duration};

use super::{Paint, words};

pub use lifeboat_engine::consequence::{rows_leaving, tables_changed, tables_leaving};

/// The rows of a plan's table.
#[derive(Clone, Debug)]
pub struct Rows {
    rows: Vec<Row>,
    phase_width: usize,
    title_width: usize,
    expected_width: usize,
}

#[derive(Clone, Debug)]
struct Row {
    number: String,
    phase: String,
    title: String,
    budget: String,
    expected: String,
    is_pivot: bool,
}

/// Titles longer than this lose their middle: paths are long, and their ends say most.
const TITLE_WIDTH_MAX: usize = 64;

impl Rows {
    /// The rows of a plan.
    pub fn new(plan: &Plan) -> Rows {
        let here = lifeboat_io::files::absolute(std::path::Path::new(".")).unwrap_or_default().display().to_string();
        let mut rows = Vec::new();
        for (number, phase) in plan.phases.iter().enumerate() {
            for (index, step) in phase.steps.iter().enumerate() {
                let first = |text: String| if index == 0 { text } else { String::new() };
                let budget = phase.budget_ms.map_or_else(|| "-".to_owned(), budget);
                rows.push(Row {
                    number: first((number + 1).to_string()),
                    phase: first(phase.name.clone()),
                    title: words::shortened(&nearer(&words::one_line(&step.title), &here), TITLE_WIDTH_MAX),
                    budget: first(budget),
                    expected: first(phase.expected.as_ref().map(words::expected).unwrap_or_default()),
                    is_pivot: step.class == StepClass::Pivot,
                });
            }
        }
        let widest = |cell: fn(&Row) -> &String, least: usize| {
            rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0).max(least)
        };
        Rows {
            phase_width: widest(|row| &row.phase, 5),
            title_width: widest(|row| &row.title, 4),
            expected_width: widest(|row| &row.expected, 8),
            rows,
        }
    }

    /// The headings; `last` is that of the column for what is said about each step.
    pub fn headings(&self, last: &str) -> String {
        self.cells("#", "PHASE", "STEP", "BUDGET", "EXPECTED", " ", last)
    }

    /// One row, with a mark in front and what is said about the step at the end.
    pub fn line(&self, index: usize, mark: &str, last: &str) -> String {
        let Some(row) = self.rows.get(index) else { return String::new() };
        self.cells(&row.number, &row.phase, &row.title, &row.budget, &row.expected, mark, last)
    }

    /// The beginning of a row: number, phase and title, as short as that.
    pub fn short(&self, index: usize) -> String {
        let Some(row) = self.rows.get(index) else { return String::new() };
        let phase = self.rows[..=index].iter().rev().find(|row| !row.phase.is_empty()).map_or("", |row| &row.phase);
        format!("{phase}: {}", row.title)
    }

    /// The line before the step after which there is only forward, where this is that step.
    pub fn line_of_no_return(&self, index: usize) -> Option<&'static str> {
        let is_pivot = self.rows.get(index).is_some_and(|row| row.is_pivot);
        is_pivot
            .then_some("     -- point of no return: before this line everything is put back when something fails --")
    }

    #[allow(clippy::too_many_arguments, reason = "one for each column, all of them text")]
    fn cells(
        &self,
        number: &str,
        phase: &str,
        title: &str,
        budget: &str,
        expected: &str,
        mark: &str,
        last: &str,
    ) -> String {
        let (phases, titles, expecteds) = (self.phase_width, self.title_width, self.expected_width);
        let line = format!(
            "{mark} {number:>2} {phase:<phases$}  {title:<titles$}  {budget:>6}  {expected:>expecteds$}  {last}"
        );
        line.trim_end().to_owned()
    }
}

/// Paths below the folder we are in, as people write them.
fn nearer(text: &str, here: &str) -> String {
    if here.len() < 2 { text.to_owned() } else { text.replace(&format!("{here}/"), "./") }
}

fn budget(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    if seconds < 3600 { format!("{}:{:02}", seconds / 60, seconds % 60) } else { words::took(ms) }
}

/// The whole plan for a person. `looked` is what a rehearsal found, step by step, when there was one.
pub fn show(plan: &Plan, looked: Option<&[Rehearsed]>, zone: &jiff::tz::TimeZone, paint: Paint) -> String {
    let mut text = format!("{}\n\n", paint.strong(&format!("Plan {}: {}", plan.id, plan.title)));
    if plan.steps().next().is_some() {
        let rows = Rows::new(plan);
        text += &format!("{}\n", paint.faint(&rows.headings(if looked.is_some() { "CHECK" } else { "" })));
        for index in 0..plan.steps().count() {
            if let Some(line) = rows.line_of_no_return(index) {
                text += &format!("{}\n", paint.doubtful(line));
            }
            let found = looked.and_then(|looked| looked.get(index)).map_or("", check_word);
            text += &format!("{}\n", rows.line(index, " ", found));
        }
        text += &total(plan);
    }
    text += &consequences(plan, zone, paint);
    for failure in looked.into_iter().flatten().filter_map(failure_of) {
        text += &format!("\n{} {}\n", paint.bad("would fail:"), words::sentence(&failure.to_string()));
        if let Some(hint) = &failure.hint {
            text += &format!("  {} {hint}\n", paint.strong("hint:"));
        }
    }
    text
}

/// What leaves, and what a person should know: the part of a plan that is not its steps.
pub fn consequences(plan: &Plan, zone: &jiff::tz::TimeZone, paint: Paint) -> String {
    let mut text: String = plan.losses.iter().map(|loss| show_loss(loss, zone, paint)).collect();
    if !plan.notes.is_empty() {
        text.push('\n');
        plan.notes.iter().for_each(|note| text += &format!("{}\n", words::sentence(&words::one_line(note))));
    }
    text
}

fn total(plan: &Plan) -> String {
    let Some(sum) = predict::add(plan.phases.iter().filter_map(|phase| phase.expected)) else { return String::new() };
    let late = show_duration(std::time::Duration::from_millis(sum.p95_ms));
    format!("   expected in all: {}; nineteen of twenty within {late}\n", words::expected(&sum))
}

fn check_word(found: &Rehearsed) -> &'static str {
    match found {
        Rehearsed::Checked => "checked",
        Rehearsed::Fails(_) => "would fail",
        Rehearsed::NotTried => "not tried",
    }
}

fn failure_of(found: &Rehearsed) -> Option<&lifeboat_model::Failure> {
    match found {
        Rehearsed::Fails(failure) => Some(failure),
        Rehearsed::Checked | Rehearsed::NotTried => None,
    }
}

/// What a dry run ends with.
pub fn exit_of(looked: &[Rehearsed]) -> ExitCode {
    let failure = looked.iter().find_map(failure_of);
    match failure.map(|failure| ExitCode::from(failure.kind)) {
        None => ExitCode::Ok,
        // A look that broke off says nothing about the world.
        Some(ExitCode::FailedUndone | ExitCode::Unknown | ExitCode::Interrupted) => ExitCode::Unknown,
        Some(_) => ExitCode::Refused,
    }
}

/// What would leave the live data, table by table.
pub fn show_loss(loss: &Loss, zone: &jiff::tz::TimeZone, paint: Paint) -> String {
    let since = words::instant(loss.since, zone);
    let mut text =
        format!("\n{}\n", paint.strong(&format!("What changes in {} (written after {since}):", loss.resource)));
    if loss.what.is_empty() {
        text += "  Nothing was seen to differ; rows are counted one by one before the swap.\n";
    }
    for line in &loss.what {
        text += &format!("  {}: {}\n", words::one_line(&line.table), one_table(line));
    }
    if !loss.kept.is_empty() {
        text += &format!("  All of it is kept in {}\n", words::sentence(&loss.kept));
    }
    text
}

/// One table: its rows now and in what comes back, then what makes the difference.
fn one_table(line: &LossLine) -> String {
    let counted = |rows: u64| words::count(rows, "row", "rows");
    let says = match (line.rows_backup, line.rows_now) {
        (Some(backup), Some(now)) if now > backup => {
            format!("{} now, {backup} in what comes back: {}", counted(now), leave(now - backup))
        }
        (Some(backup), Some(now)) if now < backup => {
            format!("{} now, {backup} in what comes back: {}", counted(now), come(backup - now))
        }
        (Some(backup), Some(_)) => format!("{backup} rows both now and in what comes back, with other contents"),
        (None, Some(now)) => {
            return format!("the table with its {} is not in what comes back: it leaves", counted(now));
        }
        (Some(backup), None) => return format!("the table with {} comes back", counted(backup)),
        (None, None) => return "differs".to_owned(),
    };
    let mut more: Vec<String> = Vec::new();
    let mut tell = |rows: Option<u64>, what: &str| {
        more.extend(rows.filter(|rows| *rows > 0).map(|rows| format!("{rows} {what}")));
    };
    tell(line.created, "created");
    tell(line.changed, "changed");
    tell(line.deleted, "deleted since, which come back");
    if line.is_uncounted() {
        more.push("changed rows are counted before the swap".to_owned());
    }
    more.extend(line.newest.iter().map(|(column, at)| format!("last {column} {}", words::one_line(at))));
    if !line.columns_leaving.is_empty() {
        more.push(format!("columns that leave: {}", line.columns_leaving.join(", ")));
    }
    if more.is_empty() { says } else { format!("{says}; {}", more.join(", ")) }
}

fn leave(rows: u64) -> String {
    format!("{rows} {}", if rows == 1 { "leaves" } else { "leave" })
}

fn come(rows: u64) -> String {
    format!("{rows} {} back", if rows == 1 { "comes" } else { "come" })
}
