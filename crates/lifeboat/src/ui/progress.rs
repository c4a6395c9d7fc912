//! Watching an operation: one line a step as it ends; on a terminal also a bar that moves, with a countdown below it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lifeboat_engine::Watch;
use lifeboat_io::{Clock, Stop};
use lifeboat_model::{Operation, Plan, Step, StepState};

use super::{
    Ui,
    countdown::{Countdown, Times},
    plan::Rows,
    words,
};

/// A watcher that tells a person.
pub struct Progress {
    ui: Ui,
    clock: Arc<dyn Clock>,
    stop: Stop,
    stop_told: AtomicBool,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    rows: Option<Rows>,
    plan: Option<Plan>,
    times: Times,
    bar: Option<ProgressBar>,
    ticking: Option<Ticking>,
    begun: Duration,
    past_pivot: bool,
}

impl Progress {
    /// A watcher that writes to standard error, as far as that is wanted.
    pub fn new(ui: Ui, clock: Arc<dyn Clock>, stop: &Stop) -> Progress {
        let (stop, stop_told, shown) = (stop.clone(), AtomicBool::new(false), Mutex::default());
        Progress { ui, clock, stop, stop_told, shown }
    }

    /// A watcher of one piece of work that is no operation.
    pub fn alone(ui: Ui, clock: Arc<dyn Clock>, stop: &Stop, what: &str) -> Progress {
        let watch = Progress::new(ui, clock, stop);
        if ui.moving {
            watch.shown().bar = Some(bar(what, None));
        }
        watch
    }

    /// So much of it is done.
    pub fn tell(&self, done: u64, total: u64) {
        self.progress(done, Some(total));
    }

    /// It is over.
    pub fn finish(&self) {
        if let Some(bar) = self.shown().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line above the bar, where there is one.
    fn line(&self, shown: &Shown, text: &str) {
        match &shown.bar {
            Some(bar) => bar.suspend(|| self.ui.talk(&format!("{text}\n"))),
            None => self.ui.talk(&format!("{text}\n")),
        }
    }

    fn tell_stop(&self, shown: &Shown) {
        if self.stop.wanted() && !self.stop_told.swap(true, Ordering::SeqCst) {
            self.line(
                shown,
                if shown.past_pivot {
                    "Past the point of no return: going on to the end, which is the shortest way to safety."
                } else {
                    "Stopping at the next safe point (Ctrl-C again breaks off the running step)."
                },
            );
        }
    }
}

impl Watch for Progress {
    fn opened(&self, operation: &Operation) {
        let mut shown = self.shown();
        let rows = Rows::new(&operation.plan);
        let paint = self.ui.paint_err;
        self.line(&shown, &paint.strong(&format!("Operation {}: {}", operation.id, operation.plan.title)));
        for (index, state) in operation.steps.iter().enumerate() {
            if !matches!(state, StepState::Planned) {
                self.line(&shown, &row(&rows, index, state, 0, paint));
            }
        }
        shown.past_pivot = operation.past_pivot;
        (shown.plan, shown.times) = (Some(operation.plan.clone()), Times::new(operation));
        shown.rows = Some(rows);
    }

    fn step_begins(&self, index: usize, _step: &Step, back: bool) {
        let mut shown = self.shown();
        shown.begun = self.clock.elapsed();
        let Some(rows) = &shown.rows else { return };
        if let Some(line) = rows.line_of_no_return(index).filter(|_| !back) {
            self.line(&shown, &self.ui.paint_err.doubtful(line));
        }
        if self.ui.moving {
            let verb = if back { "taking back " } else { "" };
            let what = format!("{verb}{}", rows.short(index));
            let countdown = shown.plan.as_ref().filter(|plan| has_budgets(plan)).map(|plan| Ticking {
                countdown: Countdown::new(plan, index, &shown.times, back),
                clock: self.clock.clone(),
                begun: shown.begun,
            });
            shown.bar = Some(bar(&what, countdown.as_ref()));
            shown.ticking = countdown;
        }
        self.tell_stop(&shown);
    }

    fn progress(&self, done: u64, total: Option<u64>) {
        let shown = self.shown();
        self.tell_stop(&shown);
        let Some(bar) = &shown.bar else { return };
        match total {
            Some(total) if bar.length() != Some(total) => {
                bar.set_length(total);
                let of = "{msg}  {bar:24} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
                bar.set_style(style(of, shown.ticking.as_ref()));
            }
            Some(_) => {}
            None => {
                bar.set_style(style("{msg}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}", shown.ticking.as_ref()))
            }
        }
        bar.set_position(done);
    }

    fn step_ends(&self, index: usize, step: &Step, state: &StepState) {
        let mut shown = self.shown();
        if let Some(bar) = shown.bar.take() {
            bar.finish_and_clear();
        }
        let took = self.clock.elapsed().saturating_sub(shown.begun).as_millis() as u64;
        shown.times.add(index, took);
        shown.past_pivot |= step.class == lifeboat_model::StepClass::Pivot && matches!(state, StepState::Done { .. });
        if let Some(rows) = &shown.rows {
            self.line(&shown, &row(rows, index, state, took, self.ui.paint_err));
        }
        self.tell_stop(&shown);
    }

    fn note(&self, text: &str) {
        self.line(&self.shown(), &words::sentence(text));
    }
}

/// A countdown that reads the clock each time it is drawn.
#[derive(Clone)]
struct Ticking {
    countdown: Countdown,
    clock: Arc<dyn Clock>,
    begun: Duration,
}

impl Ticking {
    fn line(&self) -> String {
        self.countdown.line(self.clock.elapsed().saturating_sub(self.begun).as_millis() as u64)
    }
}

/// What nobody has set a time for is not counted down.
fn has_budgets(plan: &Plan) -> bool {
    plan.phases.iter().any(|phase| phase.budget_ms.is_some())
}

fn bar(what: &str, countdown: Option<&Ticking>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style("{msg}  {elapsed}", countdown));
    bar.set_message(format!("> {what}"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A style is made of constants here; one that cannot be read falls back to the plain bar.
fn style(template: &str, countdown: Option<&Ticking>) -> ProgressStyle {
    let with = |template: &str| {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_wrong| ProgressStyle::default_bar())
            .progress_chars("##-")
    };
    let Some(ticking) = countdown.cloned() else { return with(template) };
    let key = move |_state: &ProgressState, line: &mut dyn std::fmt::Write| {
        let _ = line.write_str(&ticking.line()); // a bar that cannot be drawn stops nobody
    };
    with(&format!("{template}\n  {{countdown}}")).with_key("countdown", key)
}

/// A row of the plan's table with how the step stands. `took` is used where the state does not tell.
pub fn row(rows: &Rows, index: usize, state: &StepState, took: u64, paint: super::Paint) -> String {
    let (mark, says) = match state {
        StepState::Planned => (" ".to_owned(), String::new()),
        StepState::Running => (">".to_owned(), "running".to_owned()),
        StepState::Done { took_ms, .. } => (paint.good("+"), format!("done, {}", words::took(*took_ms))),
        StepState::Failed { failure, noted: true } => {
            (paint.doubtful("!"), format!("finding, {}: {}", words::took(took), words::one_line(&failure.message)))
        }
        StepState::Failed { failure, noted: false } => {
            (paint.bad("x"), format!("failed, {}: {}", words::took(took), words::one_line(&failure.message)))
        }
        StepState::Undoing => ("<".to_owned(), "being taken back".to_owned()),
        StepState::Undone => (paint.good("<"), "taken back".to_owned()),
        StepState::Stuck { failure } => {
            (paint.bad("x"), format!("could not be taken back: {}", words::one_line(&failure.message)))
        }
    };
    rows.line(index, &mark, &says)
}
