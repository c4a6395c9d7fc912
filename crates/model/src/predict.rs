//! How long will it take? Answered from measurements of this very resource; a guess says that it is one.

use serde::{Deserialize, Serialize};

/// What was measured once: so many bytes took so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes moved.
    pub bytes: u64,
    /// Milliseconds taken.
    pub ms: u64,
}

/// A predicted duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// Half of the runs take at most this, in milliseconds.
    pub p50_ms: u64,
    /// Nineteen of twenty take at most this, in milliseconds; with few runs, a wide guess.
    pub p95_ms: u64,
    /// How many measurements it rests on. 0: a guess from typical rates.
    pub samples: u32,
    /// How good predictions of this kind were so far; nothing with fewer than two measurements, for then none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_test: Option<BackTest>,
}

/// How good predictions were: each former run, as it would have been predicted from the runs before it, beside what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackTest {
    /// Runs that were looked at.
    pub runs: u32,
    /// How many of them took what was predicted, or up to a quarter more or less.
    pub close: u32,
    /// Half of the predictions were off by at most so many percent of what was predicted.
    pub off_percent: u32,
}

/// A prediction counts as good when the run took it, or up to so many percent more or less.
const CLOSE_PERCENT: u32 = 25;

/// By how many percent a run took more or less than was predicted.
pub fn off_percent(predicted_ms: u64, took_ms: u64) -> u32 {
    // A millisecond is as little as is measured.
    let off = predicted_ms.abs_diff(took_ms).saturating_mul(100) / predicted_ms.max(1);
    u32::try_from(off).unwrap_or(u32::MAX)
}

/// Predicts each run from those before it. `samples`: newest first, as they are kept.
fn back_test(samples: &[Sample], guess_mib_s: f64) -> Option<BackTest> {
    let mut off: Vec<u32> = (1..samples.len())
        .map(|first_known| {
            let run = &samples[first_known - 1];
            let predicted = median(&scaled(&samples[first_known..], run.bytes, guess_mib_s)) as u64;
            off_percent(predicted, run.ms)
        })
        .collect();
    off.sort_unstable();
    let middle = off.get(off.len().checked_sub(1)? / 2)?;
    let close = off.iter().filter(|off| **off <= CLOSE_PERCENT).count();
    Some(BackTest { runs: off.len() as u32, close: close as u32, off_percent: *middle })
}

/// What a step costs however small its data is, in milliseconds.
const FIXED_MS: f64 = 50.0;

/// Below this many bytes, a run tells what such a step costs in any case, and nothing of how fast bytes are moved.
const RATE_BYTES_MIN: u64 = 8 << 20;

/// A run of up to so many times fewer or more bytes tells most of how long this one takes: others are asked where there is none.
const NEAR_TIMES: u64 = 4;

/// Two runs tell how fast bytes are moved when one moved so many times what the other did.
const CLEARLY_TIMES: u64 = 2;

/// What stays of the time of a run when nearly nothing is to be moved, where no run of few bytes has told: a quarter, as it
/// was measured of databases; and at most so many milliseconds, for the run may have been of quite another kind of data.
const STAYS_SHARE: f64 = 0.25;
const STAYS_MS_MAX: f64 = 2_000.0;

/// Predicts from former runs (newest first), scaled to the new size. Without any, from `guess_mib_s`, and it says so by
/// `samples: 0`; what lies beyond a run of few bytes is guessed too.
pub fn predict(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> Prediction {
    if samples.is_empty() {
        let ms = FIXED_MS + guess_ms(bytes, guess_mib_s);
        return Prediction { p50_ms: ms as u64, p95_ms: (ms * 3.0) as u64, samples: 0, back_test: None };
    }
    let scaled = scaled(samples, bytes, guess_mib_s);
    let last = scaled[((scaled.len() as f64 * 0.95).ceil() as usize).clamp(1, scaled.len()) - 1];
    // Fewer than twenty runs cannot show a one-in-twenty case; the margin shrinks as they come in.
    let margin = 1.0 + 1.0 / (scaled.len() as f64 + 1.0);
    Prediction {
        p50_ms: median(&scaled) as u64,
        p95_ms: (last * margin).max(unlike_ms(samples, bytes)) as u64,
        samples: samples.len() as u32,
        back_test: back_test(samples, guess_mib_s),
    }
}

fn guess_ms(bytes: u64, mib_s: f64) -> f64 {
    bytes as f64 / (mib_s * 1024.0 * 1024.0) * 1000.0
}

/// What the former runs would have taken for so many bytes, in milliseconds, the shortest first: those of about as many,
/// else all.
fn scaled(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> Vec<f64> {
    let ms_per_byte = ms_per_byte(samples, bytes);
    let scaled = |sample: &Sample| match ms_per_byte {
        Some(each) => {
            let ms = sample.ms as f64 + each * (bytes as f64 - sample.bytes as f64);
            ms.max(FIXED_MS.min(sample.ms as f64))
        }
        None if sample.bytes < RATE_BYTES_MIN => {
            sample.ms as f64 + guess_ms(bytes.saturating_sub(sample.bytes), guess_mib_s)
        }
        None => scale(sample, bytes),
    };
    let near = || samples.iter().filter(|sample| are_near(sample.bytes, bytes));
    let mut scaled: Vec<f64> = match near().next() {
        Some(_) => near().map(scaled).collect(),
        None => samples.iter().map(scaled).collect(),
    };
    scaled.sort_by(f64::total_cmp);
    scaled
}

/// Whether a run of one size tells of one of the other. All that is small is alike.
fn are_near(one: u64, other: u64) -> bool {
    let (one, other) = (one.max(RATE_BYTES_MIN), other.max(RATE_BYTES_MIN));
    one.max(other) <= one.min(other).saturating_mul(NEAR_TIMES)
}

/// What a byte more takes, from all pairs of runs of clearly different sizes: the middle one of what they say, so that a slow
/// run among them does not matter. Nothing where there is no such pair, or where much more is to be moved than any run did.
fn ms_per_byte(samples: &[Sample], bytes: u64) -> Option<f64> {
    let largest = samples.iter().map(|sample| sample.bytes).max()?;
    if bytes > largest.saturating_mul(CLEARLY_TIMES) {
        return None;
    }
    let of_pair = |one: &Sample, other: &Sample| {
        let (small, large) = if one.bytes <= other.bytes { (one, other) } else { (other, one) };
        let is_clear = large.bytes >= RATE_BYTES_MIN && large.bytes >= small.bytes.saturating_mul(CLEARLY_TIMES);
        is_clear.then(|| (large.ms as f64 - small.ms as f64) / (large.bytes - small.bytes).max(1) as f64)
    };
    let pairs =
        samples.iter().enumerate().flat_map(|(at, one)| samples[at + 1..].iter().map(move |other| (one, other)));
    let mut found: Vec<f64> = pairs.filter_map(|(one, other)| of_pair(one, other)).collect();
    found.sort_by(f64::total_cmp);
    found.get(found.len().checked_sub(1)? / 2).map(|middle| middle.max(0.0))
}

/// Where all runs moved much more than is to be moved now, and so none tells what stays: as long as the longest of them it may
/// take, and no longer.
fn unlike_ms(samples: &[Sample], bytes: u64) -> f64 {
    let is_less = |sample: &Sample| sample.bytes > bytes && !are_near(sample.bytes, bytes);
    let longest = samples.iter().map(|sample| sample.ms).max().filter(|_| samples.iter().all(is_less));
    match ms_per_byte(samples, bytes) {
        Some(_) => 0.0,
        None => longest.unwrap_or(0) as f64,
    }
}

/// The middle one, the lower of two; there is one at least.
fn median(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() - 1) / 2]
}

fn scale(sample: &Sample, bytes: u64) -> f64 {
    let moving = (sample.ms as f64 - FIXED_MS).max(0.0);
    let fixed = sample.ms as f64 - moving;
    let stays = (sample.ms as f64 * STAYS_SHARE).min(STAYS_MS_MAX);
    (fixed + moving * (bytes as f64 / sample.bytes as f64)).max(stays)
}

/// One after the other.
pub fn add(all: impl IntoIterator<Item = Prediction>) -> Option<Prediction> {
    all.into_iter().reduce(|sum, next| Prediction {
        p50_ms: sum.p50_ms + next.p50_ms,
        p95_ms: sum.p95_ms + next.p95_ms,
        samples: sum.samples.min(next.samples),
        back_test: together((sum.back_test, sum.p50_ms), (next.back_test, next.p50_ms)),
    })
}

/// How good a sum is, from how good its parts were, each counting by its share. A part that was never tested leaves the sum
/// untested, but for a tenth of it: that cannot change what is said.
fn together(one: (Option<BackTest>, u64), other: (Option<BackTest>, u64)) -> Option<BackTest> {
    let (large, small) = if one.1 >= other.1 { (one, other) } else { (other, one) };
    let Some(minor) = small.0 else { return large.0.filter(|_| small.1.saturating_mul(10) <= large.1) };
    let major = large.0?;
    let all = (large.1 + small.1).max(1);
    let off = (u64::from(major.off_percent) * large.1 + u64::from(minor.off_percent) * small.1) / all;
    Some(BackTest {
        runs: major.runs.min(minor.runs),
        close: major.close.min(minor.close),
        off_percent: u32::try_from(off).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_says_that_it_is_one() {
        let guess = predict(&[], 100 << 20, 100.0);
        assert_eq!(guess, Prediction { p50_ms: 1050, p95_ms: 3150, samples: 0, back_test: None });
    }

    #[test]
    fn measurements_are_scaled_to_the_size_and_the_middle_one_counts() {
        let samples: Vec<Sample> = [1050, 2050, 9050].map(|ms| Sample { bytes: 10 << 20, ms }).to_vec();
        let predicted = predict(&samples, 20 << 20, 1.0);
        assert_eq!((predicted.p50_ms, predicted.samples), (4050, 3));
        assert!(predicted.p95_ms > 18_000, "{predicted:?}");
    }

    /// A second for 40 KiB is no rate of 40 KiB/s.
    #[test]
    fn a_run_of_few_bytes_says_nothing_about_many() {
        let sample = [Sample { bytes: 40 << 10, ms: 1000 }];
        assert_eq!(predict(&sample, 40 << 10, 100.0).p50_ms, 1000);
        assert_eq!(predict(&sample, (100 << 20) + (40 << 10), 100.0).p50_ms, 2000);
        assert_eq!(predict(&sample, 0, 100.0).p50_ms, 1000);
        let empty = [Sample { bytes: 0, ms: 70 }];
        assert_eq!(predict(&empty, 100 << 20, 100.0).p50_ms, 1070);
    }

    const GIB: u64 = 1 << 30;

    fn runs(all: &[(u64, u64)]) -> Vec<Sample> {
        all.iter().map(|(bytes, ms)| Sample { bytes: *bytes, ms: *ms }).collect()
    }

    /// What is counted and put in order is not less because little is read.
    #[test]
    fn small_runs_tell_of_small_ones_and_large_ones_of_large_ones() {
        let runs = runs(&[(1 << 20, 1900), (2 * GIB, 8000), (2 * GIB, 8100), (3 << 20, 2000), (2 * GIB, 7900)]);
        assert_eq!(predict(&runs, 2 << 20, 120.0).p50_ms, 1902);
        assert_eq!(predict(&runs, 0, 120.0).p50_ms, 1897);
        assert_eq!(predict(&runs, 2 * GIB, 120.0).p50_ms, 8000);
        let half = predict(&runs, GIB, 120.0).p50_ms;
        assert!((4_900..=5_100).contains(&half), "half way between 1.9 s and 8 s: {half}");
    }

    #[test]
    fn one_run_of_each_size_is_enough_for_all_between() {
        let runs = runs(&[(2 * GIB, 10_000), (1 << 20, 4000)]);
        for (bytes, ms) in
            [(0, 4000), (1 << 20, 4000), (GIB / 2, 5500), (GIB, 7000), (2 * GIB, 10_000), (4 * GIB, 16_000)]
        {
            let found = predict(&runs, bytes, 120.0).p50_ms;
            assert!(found.abs_diff(ms) <= 10, "{bytes}: {found}, and not {ms}");
        }
    }

    /// A slow run, and one whose disk was warm, do not carry the others away.
    #[test]
    fn runs_that_vary_are_predicted_within_a_quarter() {
        let all = [(GIB, 5200), (1 << 10, 1900), (2 * GIB, 7700), (5 << 20, 4900), (1 << 20, 1700), (2 * GIB, 14_000)];
        let all = runs(&[&all[..], &[(2 << 20, 1850), (2 * GIB, 8300), (GIB, 4800), (0, 1800)]].concat());
        for known in 5..=all.len() {
            for (bytes, ms) in [(1 << 20, 1800_u64), (GIB, 5000), (2 * GIB, 8000)] {
                let found = predict(&all[..known], bytes, 120.0).p50_ms;
                assert!(off_percent(found, ms) <= CLOSE_PERCENT, "{known} runs, {bytes}: {found}, and not {ms}");
            }
        }
    }

    /// What stays of a run when nearly nothing is moved was not measured: more than nothing, and less than all of it.
    #[test]
    fn of_large_runs_alone_a_part_stays() {
        let large = predict(&runs(&[(2 * GIB, 7200), (2 * GIB, 7000)]), 1 << 20, 120.0);
        assert_eq!((large.p50_ms, large.p95_ms), (1750, 7200));
        let other = predict(&runs(&[(2000 * GIB, 7_200_000)]), 1 << 20, 120.0);
        assert_eq!(other.p50_ms, 2000, "of terabytes of files nothing follows for a small database");
    }

    /// Newest first: 120 was predicted as 100 (the only run before it), 110 as 100 (the lower of two).
    #[test]
    fn former_predictions_are_tested_against_what_the_runs_took() {
        let runs = |all: &[u64]| all.iter().map(|ms| Sample { bytes: 1 << 20, ms: *ms }).collect::<Vec<_>>();
        let tested = |all: &[u64]| predict(&runs(all), 1 << 20, 100.0).back_test;
        assert_eq!(tested(&[100]), None, "nothing was predicted from a run yet");
        assert_eq!(tested(&[110, 120, 100]), Some(BackTest { runs: 2, close: 2, off_percent: 10 }));
        assert_eq!(tested(&[300, 100, 100]), Some(BackTest { runs: 2, close: 1, off_percent: 0 }));
        assert_eq!(tested(&[100, 300]), Some(BackTest { runs: 1, close: 0, off_percent: 66 }));
        assert_eq!((off_percent(0, 5), off_percent(100, 100), off_percent(1, u64::MAX)), (500, 0, u32::MAX));
    }

    #[test]
    fn a_sum_is_as_well_tested_as_its_large_parts() {
        let part = |p50_ms, off: Option<u32>| Prediction {
            p50_ms,
            p95_ms: p50_ms,
            samples: 3,
            back_test: off.map(|off_percent| BackTest { runs: 2, close: 1, off_percent }),
        };
        let off = |parts: [Prediction; 2]| add(parts).unwrap().back_test.map(|test| test.off_percent);
        assert_eq!(off([part(300, Some(10)), part(100, Some(50))]), Some(20));
        assert_eq!(off([part(1_000, Some(10)), part(100, None)]), Some(10));
        assert_eq!(off([part(1_000, Some(10)), part(101, None)]), None);
        assert_eq!(off([part(100, Some(10)), part(1_000, None)]), None);
    }
}
