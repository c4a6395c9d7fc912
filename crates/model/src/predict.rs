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
}

/// What a step costs however small its data is, in milliseconds.
const FIXED_MS: f64 = 50.0;

/// Below this many bytes, a run tells what such a step costs in any case, and nothing of how fast bytes are moved.
const RATE_BYTES_MIN: u64 = 8 << 20;

/// Predicts from former runs, scaled to the new size. Without any, from `guess_mib_s`, and it says so by `samples: 0`; what
/// lies beyond a run of few bytes is guessed too.
pub fn predict(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> Prediction {
    let guess = |bytes: u64| bytes as f64 / (guess_mib_s * 1024.0 * 1024.0) * 1000.0;
    if samples.is_empty() {
        let ms = FIXED_MS + guess(bytes);
        return Prediction { p50_ms: ms as u64, p95_ms: (ms * 3.0) as u64, samples: 0 };
    }
    let scaled = |sample: &Sample| match sample.bytes < RATE_BYTES_MIN {
        true => sample.ms as f64 + guess(bytes.saturating_sub(sample.bytes)),
        false => scale(sample, bytes),
    };
    let mut scaled: Vec<f64> = samples.iter().map(scaled).collect();
    scaled.sort_by(f64::total_cmp);
    let p50 = scaled[(scaled.len() - 1) / 2];
    let last = scaled[((scaled.len() as f64 * 0.95).ceil() as usize).clamp(1, scaled.len()) - 1];
    // Fewer than twenty runs cannot show a one-in-twenty case; the margin shrinks as they come in.
    let margin = 1.0 + 1.0 / (samples.len() as f64 + 1.0);
    Prediction { p50_ms: p50 as u64, p95_ms: (last * margin) as u64, samples: samples.len() as u32 }
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_says_that_it_is_one() {
        let guess = predict(&[], 100 << 20, 100.0);
        assert_eq!(guess, Prediction { p50_ms: 1050, p95_ms: 3150, samples: 0 });
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
}
