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

/// Predicts from former runs, scaled to the new size. Without any, from `guess_mib_s`, and it says so by `samples: 0`.
pub fn predict(samples: &[Sample], bytes: u64, guess_mib_s: f64) -> Prediction {
    if samples.is_empty() {
        let ms = FIXED_MS + bytes as f64 / (guess_mib_s * 1024.0 * 1024.0) * 1000.0;
        return Prediction { p50_ms: ms as u64, p95_ms: (ms * 3.0) as u64, samples: 0 };
    }
    let mut scaled: Vec<f64> = samples.iter().map(|sample| scale(sample, bytes)).collect();
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
    if sample.bytes == 0 { sample.ms as f64 } else { fixed + moving * (bytes as f64 / sample.bytes as f64) }
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
        let samples: Vec<Sample> = [1050, 2050, 9050].map(|ms| Sample { bytes: 1000, ms }).to_vec();
        let predicted = predict(&samples, 2000, 1.0);
        assert_eq!((predicted.p50_ms, predicted.samples), (4050, 3));
        assert!(predicted.p95_ms > 18_000, "{predicted:?}");
    }
}
