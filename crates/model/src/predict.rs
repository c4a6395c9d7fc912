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
            let predicted = median_ms(&samples[first_known..], run.bytes, guess_mib_s);
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
    let margin = 1.0 + 1.0 / (samples.len() as f64 + 1.0);
    Prediction {
        p50_ms: median_ms(samples, bytes, guess_mib_s),
        p95_ms: (last * margin) as u64,
        samples: samples.len() as u32,
        back_test: back_test(samples, guess_mib_s),
    }
}

fn guess_ms(bytes: u64, mib_s: f64) -> f64 {
    bytes as f64 / (mib_s * 1024.0 * 1024.0) * 1000.0
}

/// What the former runs would have taken for so many bytes, in milliseconds, the shortest first.
fn scaled(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> Vec<f64> {
    let scaled = |sample: &Sample| match sample.bytes < RATE_BYTES_MIN {
        true => sample.ms as f64 + guess_ms(bytes.saturating_sub(sample.bytes), guess_mib_s),
        false => scale(sample, bytes),
    };
    let mut scaled: Vec<f64> = samples.iter().map(scaled).collect();
    scaled.sort_by(f64::total_cmp);
    scaled
}

/// The middle of them; `samples` is not empty.
fn median_ms(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> u64 {
    let scaled = scaled(samples, bytes, guess_mib_s);
    scaled[(scaled.len() - 1) / 2] as u64
}

fn scale(sample: &Sample, bytes: u64) -> f64 {
    let moving = (sample.ms as f64 - FIXED_MS).max(0.0);
    let fixed = sample.ms as f64 - moving;
    fixed + moving * (bytes as f64 / sample.bytes as f64)
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
